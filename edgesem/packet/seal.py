"""Seal: authenticated encryption of a stream's packets, and tags on the messages that go with them.

    header (flag SEALED set) | ciphertext of the body | 16-byte tag

Cipher: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha). The header stays readable and is authenticated with the rest. The
nonce is salt, epoch, frame, flags and layers. The salt is drawn anew at each start of the sender and told in its birth
message; within one start no frame number is used twice, so no nonce is, and none has to travel. The keys in use are
derived by keyed BLAKE2b (RFC 7693) from the stream's key, the stream's name and the salt, so a packet recorded from
another stream or an earlier start does not open.
"""

from __future__ import annotations

import hmac
import secrets
import struct
import zlib
from hashlib import blake2b

from edgesem.errors import PacketError, UsageError
from edgesem.packet.packet import FLAGS, HEADER_BYTES, MAX_PACKET_BYTES, SEALED

KEY_BYTES = 32
SALT_BYTES = 16
TAG_BYTES = 16
"""What sealing adds to a packet, and signing to a message."""

_CHECKED = HEADER_BYTES - 4  # the checksum stands last in the header
_U32 = struct.Struct("<I")


def new_salt() -> bytes:
    """A salt for one start of a sender."""
    return secrets.token_bytes(SALT_BYTES)


class Seal:
    """Seals and opens the packets of one stream during one start of its sender, and signs its other messages.

    key: 32 bytes; salt: 16 bytes; stream: the topic that all the stream's topics start with. Thread-safe. Raises
    UsageError for a key or salt of another length.
    """

    def __init__(self, key: bytes, *, stream: str, salt: bytes) -> None:
        if len(key) != KEY_BYTES or len(salt) != SALT_BYTES:
            raise UsageError(
                f"a seal needs a key of {KEY_BYTES} bytes and a salt of {SALT_BYTES}, got {len(key)} and {len(salt)}"
            )
        self._salt = salt
        about = salt + stream.encode()
        self._key = blake2b(about, key=key, digest_size=KEY_BYTES, person=b"edgesem packet").digest()
        self._sign_key = blake2b(about, key=key, digest_size=KEY_BYTES, person=b"edgesem message").digest()

    def seal(self, packet: bytes) -> bytes:
        """The sealed form of `Packet.to_bytes()`, TAG_BYTES longer."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

        head = bytearray(packet[:_CHECKED])
        head[1] |= SEALED
        body = encrypt(packet[HEADER_BYTES:], bytes(head), self._nonce(head), self._key)
        return bytes(head) + _U32.pack(zlib.crc32(body, zlib.crc32(head))) + body

    def open(self, message: bytes) -> bytes:
        """The packet that was sealed, for `Packet.from_bytes`. PacketError if it was not sealed with this key."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
        from nacl.exceptions import CryptoError

        if not HEADER_BYTES + TAG_BYTES <= len(message) <= MAX_PACKET_BYTES + TAG_BYTES:
            raise PacketError(f"not a sealed packet: {len(message)} bytes")
        head = bytearray(message[:_CHECKED])
        if not head[1] & SEALED:
            raise PacketError("the packet is not sealed, but its stream has a key: refused")
        try:
            body = decrypt(message[HEADER_BYTES:], bytes(head), self._nonce(head), self._key)
        except CryptoError:
            raise PacketError("the packet was not sealed with this stream's key, or was changed on its way") from None
        head[1] &= ~SEALED & 0xFF
        return bytes(head) + _U32.pack(zlib.crc32(body, zlib.crc32(head))) + body

    def sign(self, payload: bytes, topic: str) -> bytes:
        """`payload` followed by a 16-byte tag, which proves the key's owner and the topic that it is meant for."""
        return payload + self.tag(payload, topic)

    def verify(self, message: bytes, topic: str) -> bytes:
        """The payload of a signed message. PacketError if it was not signed with this key for this topic."""
        payload, tag = message[:-TAG_BYTES], message[-TAG_BYTES:]
        if len(message) < TAG_BYTES or not hmac.compare_digest(tag, self.tag(payload, topic)):
            raise PacketError("the message was not signed with this stream's key: refused")
        return payload

    def tag(self, payload: bytes, topic: str) -> bytes:
        """The 16-byte tag of a message on a topic: what `sign` adds."""
        name = topic.encode()
        about = struct.pack("<H", len(name)) + name + payload
        return blake2b(about, key=self._sign_key, digest_size=TAG_BYTES).digest()

    def _nonce(self, head: bytearray) -> bytes:
        """24 bytes: salt (16), epoch (2), frame (4), flags (1), layers (1); different for each packet of one start."""
        return self._salt + bytes(head[4:10]) + bytes([head[1] & FLAGS, head[19]])

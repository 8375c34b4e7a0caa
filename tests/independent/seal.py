"""Opens sealed packets and checks the tags of acknowledgements and commands (protocol.md, section 10)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import blake2b

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.exceptions import CryptoError

from tests.independent.packet import HEADER_BYTES, MOST_BYTES, SEALED, checksum, read_header
from tests.independent.refusal import RefusedError

TAG_BYTES = 16


@dataclass(frozen=True)
class Keys:
    """What packets and messages of one start of a publisher are sealed and signed with."""

    salt: bytes
    packet: bytes
    message: bytes


def derive(stream_key: bytes, salt: bytes, base: str) -> Keys:
    """The two keys of a stream key, a salt and the base of the stream."""
    packet, message = (
        blake2b(salt + base.encode(), key=stream_key, digest_size=32, person=person.ljust(16, b"\0")).digest()
        for person in (b"edgesem packet", b"edgesem message")
    )
    return Keys(salt, packet, message)


def nonce_of(data: bytes, salt: bytes) -> bytes:
    """The nonce of a sealed packet: 24 bytes."""
    return salt + data[4:10] + bytes([data[1] & 0x0F, data[19]])


def open_packet(data: bytes, keys: Keys) -> bytes:
    """The plain packet that was sealed. The checksum of the sealed packet is not looked at."""
    if not HEADER_BYTES + TAG_BYTES <= len(data) <= MOST_BYTES + TAG_BYTES:
        raise RefusedError("length", f"{len(data)} bytes")
    if not read_header(data).sealed:
        raise RefusedError("not sealed")
    try:
        body = crypto_aead_xchacha20poly1305_ietf_decrypt(
            data[HEADER_BYTES:], data[:20], nonce_of(data, keys.salt), keys.packet
        )
    except CryptoError as error:
        raise RefusedError("seal") from error
    header = bytes([data[0], data[1] & ~SEALED, *data[2:20]])
    return header + checksum(header + bytes(4) + body).to_bytes(4, "little") + body


def message_tag(payload: bytes, topic: str, key: bytes) -> bytes:
    """The tag of a CBOR item on a topic."""
    name = topic.encode()
    return blake2b(len(name).to_bytes(2, "little") + name + payload, key=key, digest_size=TAG_BYTES).digest()


def open_message(data: bytes, topic: str, key: bytes) -> bytes:
    """The CBOR item of a message whose tag is right."""
    payload, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
    if len(data) <= TAG_BYTES or not hmac.compare_digest(tag, message_tag(payload, topic, key)):
        raise RefusedError("tag")
    return payload

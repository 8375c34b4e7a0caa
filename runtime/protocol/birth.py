"""Birth message: the retained description of a publisher, signed with the device key.

Starts of a device are ordered by `start`, a counter that it keeps on its disk, and not by its clock, which may go back.
The birth of a sealed stream also has a tag of the stream's key: whoever does not have that key cannot make one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

import cbor2

from edgesem.errors import PacketError
from edgesem.packet.keys import SIGNATURE_BYTES, Identity, check_signature
from edgesem.packet.packet import MAX_SIDE
from edgesem.packet.seal import SALT_BYTES, TAG_BYTES, Seal
from runtime.protocol.fields import Fields

MAX_BIRTH_BYTES = 1024
_MAX_BODY_BYTES = 768
_KEY_BYTES = 32
_VERSION = 1
_MOST = 2**53


@dataclass(frozen=True)
class Birth:
    """One start of a sender: what a receiver must know to take its packets."""

    bundle_id: int
    """The bundle's number in packet headers, 0 to 65535."""
    bundle_digest: str
    """SHA-256 of the bundle, hexadecimal."""
    width: int
    """Of its frames in pixels; 0 if they vary."""
    height: int
    """The same."""
    fps: float
    """At most so many frames a second."""
    epoch: int
    """Number of this start of the sender, 0 to 65535."""
    salt: bytes
    """Salt of this start's seal, drawn by lot."""
    time_ms: int
    """Unix milliseconds when it was said; for information."""
    sealed: bool
    """Whether packets, acknowledgements and commands are sealed."""
    program: str
    """Name of the sending program, 32 characters at most."""
    start: int = 0
    """Start counter, 0 to 2^53: larger at each start of the device, the same for all births of one start. A birth with
    a smaller one than the largest known of its key is a recording: refuse it."""
    public_key: bytes = b""
    """The key that it was signed with; set by `from_bytes`."""

    def to_bytes(self, identity: Identity, *, base: str, key: bytes | None = None) -> bytes:
        """The signed birth, as it is published for the stream whose topics start with `base`; `key` is its seal's."""
        body = cbor2.dumps(
            {
                "v": _VERSION,
                "i": self.bundle_id,
                "d": self.bundle_digest,
                "w": self.width,
                "h": self.height,
                "f": self.fps,
                "e": self.epoch,
                "z": self.salt,
                "t": self.time_ms,
                "p": self.sealed,
                "n": self.program,
                "c": self.start,
            }
        )
        outer = {"b": body, "k": identity.public_key, "s": identity.sign(_signed(body, base))}
        if key is not None:
            outer["m"] = _tag(body, key, base, self.salt)
        return cbor2.dumps(outer)

    @classmethod
    def from_bytes(cls, data: bytes, *, base: str, key: bytes | None = None) -> Birth:
        """The birth in `data`, if its signature holds for this stream; PacketError for anything else.

        With `key`, the stream's seal key, it must have that key's tag too. Whether the device's key is the right one is
        for the caller to check.
        """
        outer = Fields(data, what="birth", limit_bytes=MAX_BIRTH_BYTES)
        body = outer.raw("b", _MAX_BODY_BYTES, exact=False)
        public_key = outer.raw("k", _KEY_BYTES)
        signature = outer.raw("s", SIGNATURE_BYTES)
        check_signature(_signed(body, base), signature, public_key)
        fields = Fields(body, what="birth", limit_bytes=_MAX_BODY_BYTES)
        version = fields.integer("v", 0xFFFF)
        if version != _VERSION:
            raise PacketError(f"birth: version {version} is not known here, only {_VERSION}: update edgesem")
        time_ms = fields.integer("t", _MOST)
        birth = cls(
            bundle_id=fields.integer("i", 0xFFFF),
            bundle_digest=fields.text("d", 64),
            width=fields.integer("w", MAX_SIDE),
            height=fields.integer("h", MAX_SIDE),
            fps=fields.number("f", 0, 1000),
            epoch=fields.integer("e", 0xFFFF),
            salt=fields.raw("z", SALT_BYTES),
            time_ms=time_ms,
            sealed=fields.flag("p"),
            program=fields.text("n", 32),
            start=fields.integer("c", _MOST) if "c" in fields else time_ms // 1000,  # version 0.1 has none
            public_key=public_key,
        )
        if key is not None and not hmac.compare_digest(outer.raw("m", TAG_BYTES), _tag(body, key, base, birth.salt)):
            raise PacketError("birth: its tag is not of this stream's key: of another sender, or a stranger")
        return birth


def _tag(body: bytes, key: bytes, base: str, salt: bytes) -> bytes:
    return Seal(key, stream=base, salt=salt).tag(body, f"{base}/birth")


def _signed(body: bytes, base: str) -> bytes:
    return b"edgesem birth\0" + base.encode() + b"\0" + body

"""Birth message: the retained description of a publisher, signed with the device key."""

from __future__ import annotations

from dataclasses import dataclass

import cbor2

from edgesem.errors import PacketError
from edgesem.packet.keys import SIGNATURE_BYTES, Identity, check_signature
from edgesem.packet.packet import MAX_SIDE
from edgesem.packet.seal import SALT_BYTES
from runtime.protocol.fields import Fields

MAX_BIRTH_BYTES = 512
_MAX_BODY_BYTES = 384
_KEY_BYTES = 32
_VERSION = 1
_MAX_TIME_MS = 2**53


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
    """Unix milliseconds. A birth older than the newest one known is a replay: refuse it."""
    sealed: bool
    """Whether packets, acknowledgements and commands are sealed."""
    program: str
    """Name of the sending program, 32 characters at most."""
    public_key: bytes = b""
    """The key that it was signed with; set by `from_bytes`."""

    def to_bytes(self, identity: Identity, *, base: str) -> bytes:
        """The signed birth, as it is published for the stream whose topics start with `base`."""
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
            }
        )
        return cbor2.dumps({"b": body, "k": identity.public_key, "s": identity.sign(_signed(body, base))})

    @classmethod
    def from_bytes(cls, data: bytes, *, base: str) -> Birth:
        """The birth in `data`, if its signature holds for this stream; PacketError for anything else.

        Whether the key is the right one is for the caller to check.
        """
        outer = Fields(data, what="birth", limit_bytes=MAX_BIRTH_BYTES)
        body = outer.raw("b", _MAX_BODY_BYTES, exact=False)
        key = outer.raw("k", _KEY_BYTES)
        signature = outer.raw("s", SIGNATURE_BYTES)
        outer.end()
        check_signature(_signed(body, base), signature, key)
        fields = Fields(body, what="birth", limit_bytes=_MAX_BODY_BYTES)
        version = fields.integer("v", 0xFFFF)
        if version != _VERSION:
            raise PacketError(f"birth: version {version} is not known here, only {_VERSION}: update edgesem")
        birth = cls(
            bundle_id=fields.integer("i", 0xFFFF),
            bundle_digest=fields.text("d", 64),
            width=fields.integer("w", MAX_SIDE),
            height=fields.integer("h", MAX_SIDE),
            fps=fields.number("f", 0, 1000),
            epoch=fields.integer("e", 0xFFFF),
            salt=fields.raw("z", SALT_BYTES),
            time_ms=fields.integer("t", _MAX_TIME_MS),
            sealed=fields.flag("p"),
            program=fields.text("n", 32),
            public_key=key,
        )
        fields.end()
        return birth


def _signed(body: bytes, base: str) -> bytes:
    return b"edgesem birth\0" + base.encode() + b"\0" + body

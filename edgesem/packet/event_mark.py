"""Event mark: side information of a promised frame that belongs to an event, which is a run of frames of one stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgesem.errors import PacketError

CAUSES = ("ask", "watch", "change", "gpio")
"""What made an event, by its number in the mark. Of a number that is not known here, the cause is `other`."""
MAX_LABEL_BYTES = 100
_FORM = struct.Struct("<IHiB")
_LAST = 0x80


@dataclass(frozen=True)
class EventMark:
    """Place of a frame in an event. Raises PacketError for numbers that do not fit the format.

    event: number that is drawn for each event, 1 to 2^32 - 1. place: of the frame among those of the event, in order of
    time, from 0 on. since_ms: from the event's beginning to this frame's capture; negative before it. kind: the cause,
    a place in `CAUSES` or another number below 128. last: whether it is the last frame, unless the event goes on later.
    label: printable text of at most 100 bytes in UTF-8.
    """

    event: int
    place: int
    since_ms: int
    kind: int = 0
    last: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        if not (1 <= self.event < 2**32 and 0 <= self.place < 2**16 and -(2**31) <= self.since_ms < 2**31):
            raise PacketError(f"packet: frame {self.place} of event {self.event}, {self.since_ms} ms, cannot be")
        if not 0 <= self.kind < _LAST:
            raise PacketError(f"packet: an event's cause is {self.kind}, must be 0 to {_LAST - 1}")
        if not (self.label.isprintable() and len(self.label.encode()) <= MAX_LABEL_BYTES):
            raise PacketError(f"packet: an event's label is printable, and has at most {MAX_LABEL_BYTES} bytes")

    @property
    def name(self) -> str:
        """The event's number, as files and messages have it: 8 hexadecimal digits."""
        return f"{self.event:08x}"

    @property
    def cause(self) -> str:
        """What made the event: one of `CAUSES`, or `other`."""
        return CAUSES[self.kind] if self.kind < len(CAUSES) else "other"

    @property
    def size_bytes(self) -> int:
        """What `to_bytes` will return."""
        return _FORM.size + len(self.label.encode())

    def to_bytes(self) -> bytes:
        """The value of the item: u32 event, u16 place, i32 since_ms, u8 cause and last, label."""
        head = _FORM.pack(self.event, self.place, self.since_ms, self.kind | (_LAST if self.last else 0))
        return head + self.label.encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> EventMark:
        """The mark in an item's value; PacketError for anything that is none, whatever the bytes are."""
        if not _FORM.size <= len(value) <= _FORM.size + MAX_LABEL_BYTES:
            raise PacketError(f"packet: an event's mark has {len(value)} bytes")
        event, place, since_ms, kind = _FORM.unpack_from(value)
        try:
            label = value[_FORM.size :].decode()
        except UnicodeDecodeError:
            raise PacketError("packet: an event's label is not UTF-8") from None
        return cls(event, place, since_ms, kind & ~_LAST, bool(kind & _LAST), label)


def short_label(text: str) -> str:
    """Printable text of at most 100 bytes in UTF-8, whatever the text is: what does not fit is cut off."""
    printable = "".join(c for c in text if c.isprintable())
    return printable.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")

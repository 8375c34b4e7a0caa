"""Detail mark: side information of a promised packet that shows a part of the picture, in the camera's full resolution.

Such a packet is a picture of its own, and none of the stream's frames.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgesem.errors import PacketError

_FORM = struct.Struct("<HHHHI")
_ALL = 65535


@dataclass(frozen=True)
class DetailMark:
    """Place of a detail in the picture that it is a part of. Raises PacketError for a place that cannot be.

    left, top, right, bottom: its edges in 65535ths of the picture's width and height. request: the lower 32 bits of the
    number of the command that asked for it.
    """

    left: int
    top: int
    right: int
    bottom: int
    request: int

    def __post_init__(self) -> None:
        inside = 0 <= self.left < self.right <= _ALL and 0 <= self.top < self.bottom <= _ALL
        if not inside or not 0 <= self.request < 2**32:
            raise PacketError(
                f"packet: a detail at {self.left},{self.top} to {self.right},{self.bottom} of 65535 cannot be"
            )

    @classmethod
    def of(cls, roi: tuple[float, float, float, float], request: int) -> DetailMark:
        """The mark of a part of the picture, given as left, top, width and height in shares of it."""
        left, top, width, height = roi
        ends = (left, top, left + width, top + height)
        x0, y0, x1, y1 = (min(max(round(_ALL * end), 0), _ALL) for end in ends)
        return cls(x0, y0, x1, y1, request & 0xFFFFFFFF)

    @property
    def roi(self) -> tuple[float, float, float, float]:
        """Left, top, width and height in shares of the picture, to five places."""
        width, height = self.right - self.left, self.bottom - self.top
        left, top, width_share, height_share = (round(edge / _ALL, 5) for edge in (self.left, self.top, width, height))
        return left, top, width_share, height_share

    @property
    def size_bytes(self) -> int:
        """What `to_bytes` will return."""
        return _FORM.size

    def to_bytes(self) -> bytes:
        """The value of the item: u16 left, top, right, bottom; u32 request."""
        return _FORM.pack(self.left, self.top, self.right, self.bottom, self.request)

    @classmethod
    def from_bytes(cls, value: bytes) -> DetailMark:
        """The mark in an item's value; PacketError for anything that is none, whatever the bytes are."""
        if len(value) != _FORM.size:
            raise PacketError(f"packet: a detail's mark has {len(value)} bytes, not {_FORM.size}")
        return cls(*_FORM.unpack(value))

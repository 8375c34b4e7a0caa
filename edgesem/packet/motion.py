"""Motion of an inter frame: where its reference's positions have gone, as a few bytes.

A frame has one vector, and blocks of BLOCK x BLOCK positions may have others. A vector (dy, dx), in positions of 16
pixels, says that what is at (y, x) was at (y + dy, x + dx) in the reference. The bytes are a bit string, the most
significant bit of each byte first, zeros at its end, of numbers in Exp-Golomb code:

    0 | dy, dx of the frame | for each other block, row by row: how many blocks have the frame's vector since the one
    before, then dy, dx less those of the one before (of the first: less the frame's)

dy and dx are signed: 0, 1, -1, 2, -2 and so on count as 0, 1, 2, 3, 4. The bit of 0 is for a later, finer unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesem.errors import PacketError
from edgesem.packet.side_information import MAX_MOTION_BYTES, MAX_POSITION

BLOCK = 4
"""Positions a side."""

Field = npt.NDArray[np.int16]
"""dy, dx of each block, [ceil(h / BLOCK), ceil(w / BLOCK), 2], -255..255."""

_LONGEST_PREFIX = 17  # zeros in front of a number


def to_bytes(whole: tuple[int, int], field: Field) -> bytes:
    """The bytes of a frame's vector and those of its blocks; they may be more than MAX_MOTION_BYTES."""
    vectors = field.reshape(-1, 2).tolist()
    dy, dx = whole
    text = "0" + _signed(dy) + _signed(dx)
    last = -1
    for place, (y, x) in enumerate(vectors):
        if (y, x) != tuple(whole):
            text += _number(place - last - 1) + _signed(y - dy) + _signed(x - dx)
            last, dy, dx = place, y, x
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def from_bytes(data: bytes, height: int, width: int) -> Field:
    """The vectors of the blocks of a latent of [height, width] positions, which are at most 256 each.

    Raises PacketError for what is no motion of this size, whatever the bytes are. No more is read than `data` has.
    """
    if not 1 <= len(data) <= MAX_MOTION_BYTES:
        raise PacketError(f"packet: motion of {len(data)} bytes cannot be")
    numbers = _Numbers(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}")
    dy, dx = numbers.signed(), numbers.signed()
    field = np.empty((-(-height // BLOCK), -(-width // BLOCK), 2), np.int16)
    blocks, last = field.reshape(-1, 2), -1
    blocks[:] = _vector(dy, dx)
    while numbers.more:
        last += numbers.next() + 1
        if last >= len(blocks):
            raise PacketError(f"packet: motion goes beyond {width}x{height} positions")
        dy, dx = dy + numbers.signed(), dx + numbers.signed()
        blocks[last] = _vector(dy, dx)
    return field


class _Numbers:
    """Reads the numbers of a bit string."""

    def __init__(self, bits: str) -> None:
        if bits[0] != "0":
            raise PacketError("packet: motion in a unit that is not known here")
        self._bits, self._place = bits, 1

    def next(self) -> int:
        start = self._bits.find("1", self._place)
        end = 2 * start - self._place + 1
        if start < 0 or start - self._place > _LONGEST_PREFIX or end > len(self._bits):
            raise PacketError("packet: motion ends inside a number")
        self._place = end
        return int(self._bits[start:end], 2) - 1

    def signed(self) -> int:
        number = self.next()
        return (number + 1) // 2 if number % 2 else -(number // 2)

    @property
    def more(self) -> bool:
        """Whether a number follows. Raises PacketError for more zeros than fill a byte."""
        if "1" in self._bits[self._place :]:
            return True
        if len(self._bits) - self._place >= 8:
            raise PacketError("packet: motion has bytes behind its end")
        return False


def _vector(dy: int, dx: int) -> tuple[int, int]:
    if max(abs(dy), abs(dx)) > MAX_POSITION:
        raise PacketError(f"packet: motion by {dy},{dx} positions cannot be")
    return dy, dx


def _number(value: int) -> str:
    return "0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}"


def _signed(value: int) -> str:
    return _number(2 * value - 1 if value > 0 else -2 * value)

"""Copy map: the positions of an inter frame that stay as its reference has them, as a few bytes.

A bit string, the most significant bit of each byte first, zeros at its end: one bit that names the prediction, three
bits with k, then for each position that is not as predicted the number of positions before it that are, since the one
before, in Exp-Golomb code of order k. Positions go row by row. What lies beyond the map counts as copied.

    prediction 0    as the position above
    prediction 1    left XOR above XOR above left: only the corners of coded areas are not as predicted
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesem.errors import PacketError
from edgesem.packet.side_information import MAX_COPIES_BYTES

MAX_BYTES = MAX_COPIES_BYTES

Mask = npt.NDArray[np.bool_]

_ORDERS = np.arange(8)[:, None]  # of the code of runs
_LONGEST_PREFIX = 17  # zeros in front of a run: no map has 2^17 positions


def to_bytes(copied: Mask) -> bytes:
    """The shortest form of a map, bool [h, w] with h and w up to 256; it may be longer than MAX_BYTES."""
    if copied.all():
        return b"\0"
    _, prediction, order, runs = _shortest(copied)
    numbers = (runs + (1 << order)).tolist()
    text = f"{prediction}{order:03b}" + "".join([f"{one:0{2 * one.bit_length() - order - 1}b}" for one in numbers])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def size_bytes(copied: Mask) -> int:
    """The length of what `to_bytes` makes of a map, in less time."""
    return (4 + _shortest(copied)[0] + 7) // 8


def _shortest(copied: Mask) -> tuple[int, int, int, npt.NDArray[np.int64]]:
    """The shortest form of a map: bits of its runs, prediction, order, runs."""
    coded = ~copied
    above = coded.copy()
    above[1:] ^= coded[:-1]
    corners = above.copy()
    corners[:, 1:] ^= above[:, :-1]
    forms = []
    for prediction, wrong in enumerate((above, corners)):
        runs = np.diff(np.flatnonzero(wrong), prepend=-1) - 1
        widths = np.frexp(runs + (1 << _ORDERS))[1]  # the number of bits of each, in each order
        sizes = 2 * widths.sum(1) - (_ORDERS[:, 0] + 1) * runs.size
        order = int(sizes.argmin())
        forms.append((int(sizes[order]), prediction, order, runs))
    return min(forms, key=lambda form: form[:3])


def from_bytes(data: bytes, height: int, width: int) -> Mask:
    """The map in `data`, bool [height, width], which are at most 256 each.

    Raises PacketError for what is no map of this size, whatever the bytes are. No more is read than `data` has.
    """
    if not 1 <= len(data) <= MAX_BYTES:
        raise PacketError(f"packet: a copy map of {len(data)} bytes cannot be")
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    order, place, position = int(bits[1:4], 2), 4, -1
    places = []
    while (start := bits.find("1", place)) >= 0:
        zeros = start - place
        place = start + zeros + order + 1
        if zeros > _LONGEST_PREFIX or place > len(bits):
            raise PacketError("packet: a copy map ends inside a run")
        position += int(bits[start:place], 2) - (1 << order) + 1
        if position >= height * width:
            raise PacketError(f"packet: a copy map goes beyond {width}x{height} positions")
        places.append(position)
    if len(bits) - place >= 8:
        raise PacketError("packet: a copy map has bytes behind its end")
    coded = np.zeros((height, width), bool)
    coded.ravel()[places] = True
    coded = np.logical_xor.accumulate(coded, 0)
    if bits[0] == "1":
        coded = np.logical_xor.accumulate(coded, 1)
    return ~coded

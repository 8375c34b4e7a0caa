"""Lane termination: how the lanes of a message begin and end, and how its first bytes say so.

Interleaved rANS (edgesem.entropy.rans) keeps a state of 16 to 31 bits a lane, which a short message cannot afford. Two
things make both ends of a lane cheap. Each final state is written with just the bits that it has. And the last symbols
to be decoded are coded by fewer and fewer lanes, so that a lane can start, when coding, from words that the lanes
before it wrote. Own scheme; it is specified in docs/bitstream.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.entropy.tables import Integers, Tables
from edgesem.errors import PacketError

MAX_LANES = 256
_MAX_LOG_ROWS = 7  # of the rows that each smaller number of lanes codes
_QUICK_ROWS = 1000  # so many rows with few lanes after it cost no noticeable time


class LaneTermination(NamedTuple):
    """Where the lanes get fewer, in decoding order.

    Toward its end, pass `at` halves their number every 2^log_rows rows, down to 2^log_width lanes; all passes after it
    have that many. What is decoded last was coded first, when few words existed yet for further lanes to start from.
    """

    at: int
    log_rows: int
    log_width: int

    def stretches(self, index: int, count: int, lanes: int) -> list[tuple[int, int]]:
        """Width and number of symbols of each stretch of equal rows in pass `index`, in decoding order.

        A short row is a stretch of its own, as wide as it is long.
        """
        tail: list[tuple[int, int]] = []
        width = 1 << self.log_width
        if index > self.at:
            lanes = width
        while index == self.at and width < lanes and count > 0:
            size = min(width << self.log_rows, count)
            rest = size % width  # coded last, so decoded first
            tail += [(width, size - rest)] * (size > rest) + [(rest, rest)] * (rest > 0)
            count -= size
            width *= 2
        rest = count % lanes
        return [(lanes, count - rest)] * (count > rest) + [(rest, rest)] * (rest > 0) + tail[::-1]

    @classmethod
    def choose(cls, passes: Sequence[Integers], tables: Tables, lanes: int) -> LaneTermination:
        """The termination of a message: in the last pass with bits enough to start all lanes, 20 a lane.

        passes: the table entries of each pass. The fewer bits a symbol of that pass has, the more rows each halving
        gets.
        """
        bits = [float(tables.bits[entries].sum()) for entries in passes]
        enough = [index for index, b in enumerate(bits) if b >= 20 * lanes]
        at = enough[-1] if enough else int(np.argmax(bits))
        each = bits[at] / max(passes[at].size, 1)
        after = sum(entries.size for entries in passes[at + 1 :])
        return cls(
            at,
            min(_MAX_LOG_ROWS, max(0, math.ceil(math.log2(18 / max(each, 0.01))))),
            min(lanes.bit_length() - 1, max(0, math.ceil(math.log2(max(after / _QUICK_ROWS, 1))))),
        )


def pack_head(state: npt.NDArray[np.uint64], termination: LaneTermination) -> bytes:
    """Number of lanes and lane termination in two bytes, then each state as 4 bits of length and the bits below its
    first one."""
    bits, length = 0, 0
    for x in state.tolist():
        size = x.bit_length() - 1  # 16 to 31
        bits = (bits << 4 | size - 16) << size | x ^ 1 << size
        length += 4 + size
    padding = -length % 8
    shape = state.size.bit_length() - 1 | termination.at << 4 | termination.log_rows << 8 | termination.log_width << 12
    return shape.to_bytes(2, "little") + (bits << padding).to_bytes((length + padding) // 8, "big")


def unpack_head(chunk: bytes) -> tuple[npt.NDArray[np.uint64], LaneTermination, bytes]:
    """What `pack_head` wrote at the start of a first chunk: states, lane termination, and the bytes that follow.

    Raises PacketError for bytes that it cannot have written.
    """
    shape = int.from_bytes(chunk[:2], "little")
    log_lanes, termination = shape & 15, LaneTermination(shape >> 4 & 15, shape >> 8 & 15, shape >> 12)
    if (
        len(chunk) < 2
        or 1 << log_lanes > MAX_LANES
        or termination.log_rows > _MAX_LOG_ROWS
        or termination.log_width > log_lanes
    ):
        raise PacketError("packet: the base layer does not begin with its lanes")
    lanes = 1 << log_lanes
    head = chunk[2 : 2 + lanes * 35 // 8 + 1]
    bits, left = int.from_bytes(head, "big"), 8 * len(head)
    states = []
    for _ in range(lanes):
        size = 16 + (bits >> left - 4 & 15) if left >= 4 else 32
        left -= 4 + size
        if left < 0:
            raise PacketError("packet: the base layer ends inside its lanes' states")
        states.append(1 << size | bits >> left & (1 << size) - 1)
    return np.array(states, np.uint64), termination, chunk[2 + len(head) - left // 8 :]

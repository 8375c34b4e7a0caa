"""Entropy decoding of the layers of a frame (bitstream.md, sections 7 and 8)."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from tests.independent.refusal import RefusedError

TOTAL = 1 << 16
LOW = 1 << 16


class Tables:
    """The probability tables of a bundle: for each its radius, frequencies and cumulative sums."""

    def __init__(self, radius: NDArray[np.int32], frequency: NDArray[np.int32]) -> None:
        self.radius = [int(r) for r in radius]
        self.frequency: list[list[int]] = []
        self.below: list[list[int]] = []
        numbers, place = [int(f) for f in frequency], 0
        for r in self.radius:
            table = numbers[place : place + 2 * r + 1]
            if not 0 <= r <= 255 or len(table) != 2 * r + 1 or min(table) < 1 or sum(table) != TOTAL:
                raise ValueError("a probability table breaks the rules of the bundle")
            self.frequency.append(table)
            self.below.append([0, *accumulate(table)][:-1])
            place += 2 * r + 1
        self.first = next((k for k, r in enumerate(self.radius) if r > 0), len(self.radius))
        if place != len(numbers) or 0 in self.radius[self.first :]:
            raise ValueError("the tables of the bundle do not fit")


@dataclass(frozen=True)
class Lanes:
    """The first two bytes of the base layer's chunk."""

    lanes: int
    at: int
    log_rows: int
    log_width: int


def read_lanes(chunk: bytes) -> Lanes:
    """Read and check the shape of the lanes."""
    if len(chunk) < 2:
        raise RefusedError("damaged", "no head")
    shape = int.from_bytes(chunk[:2], "little")
    log_lanes, at, log_rows, log_width = (shape >> shift & 15 for shift in (0, 4, 8, 12))
    if log_lanes > 8 or log_rows > 7 or log_width > log_lanes:
        raise RefusedError("damaged", "lanes that cannot be")
    return Lanes(1 << log_lanes, at, log_rows, log_width)


def read_states(data: bytes, count: int) -> tuple[list[int], int]:
    """The initial states, and how many bytes they take."""
    number, length, place = int.from_bytes(data, "big"), 8 * len(data), 0

    def bits(many: int) -> int:
        nonlocal place
        place += many
        if place > length:
            raise RefusedError("damaged", "ends inside the states")
        return number >> (length - place) & ((1 << many) - 1)

    states = []
    for _ in range(count):
        size = 16 + bits(4)
        states.append(1 << size | bits(size))
    return states, -(-place // 8)


class SymbolDecoder:
    """Reads the symbols of a frame, pass after pass, from the chunks of its first layers."""

    def __init__(self, chunks: Sequence[bytes], tables: Tables) -> None:
        self.tables = tables
        self.shape = read_lanes(chunks[0])
        most = -(-35 * self.shape.lanes // 8)  # bytes of the states, if each takes all of its 4 + 31 bits
        self.states, used = read_states(chunks[0][2 : 2 + most], self.shape.lanes)
        self.queue: deque[int] = deque()
        for part in (chunks[0][2 + used :], *chunks[1:]):
            if len(part) % 2:
                raise RefusedError("damaged", "half a word")
            self.queue.extend(int.from_bytes(part[i : i + 2], "little") for i in range(0, len(part), 2))
        self.queue.extend([0] * (2 * self.shape.lanes))
        self.number = 0

    def rows(self, count: int) -> list[int]:
        """The widths of the rows of the present pass, with `count` symbols, in decoding order."""
        shape = self.shape
        narrow = 1 << shape.log_width
        full = narrow if self.number > shape.at else shape.lanes
        tail: list[list[int]] = []
        width = narrow
        while self.number == shape.at and width < shape.lanes and count:
            size = min(width << shape.log_rows, count)
            tail.insert(0, [size % width] * (size % width > 0) + [width] * (size // width))
            count -= size
            width *= 2
        start = [full] * (count // full) + [count % full] * (count % full > 0)
        return start + [row for stretch in tail for row in stretch]

    def end_lanes(self, keep: int) -> None:
        """End all lanes from `keep` on. Their words go in front of the queue, the lowest lane's first."""
        while len(self.states) > keep:
            state = self.states.pop()
            if not LOW <= state < 2 * LOW:
                raise RefusedError("damaged", "a lane does not end where it started")
            self.queue.appendleft(state - LOW)

    def read_pass(self, scales: Sequence[int]) -> list[int]:
        """The symbols of the next pass; `scales` has the table of each."""
        rows, last = self.rows(len(scales)), self.number == self.shape.at
        narrow = 1 << self.shape.log_width
        # needed[i]: the widest of row i and all later ones.
        needed = list(accumulate(reversed(rows), max))[::-1]
        symbols: list[int] = []
        for width, most in zip(rows, needed, strict=True):
            if last:
                self.end_lanes(max(narrow, most))
            for lane in range(width):
                symbols.append(self.symbol(lane, scales[len(symbols)]))
        if last:
            self.end_lanes(narrow)
        self.number += 1
        return symbols

    def symbol(self, lane: int, table: int) -> int:
        """One symbol from one lane."""
        state = self.states[lane]
        slot = state & 0xFFFF
        below = self.tables.below[table]
        place = bisect_right(below, slot) - 1
        state = self.tables.frequency[table][place] * (state >> 16) + slot - below[place]
        if state < LOW:
            if not self.queue:
                raise RefusedError("damaged", "the words end early")
            state = state << 16 | self.queue.popleft()
        self.states[lane] = state
        return place - self.tables.radius[table]

    def finish(self) -> None:
        """Check the end of a frame all of whose layers are here."""
        self.end_lanes(0)
        if any(self.queue):
            raise RefusedError("damaged", "words are left over")

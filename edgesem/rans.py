"""Entropy coding: one interleaved rANS stream over all layers of a packet, in plain integer numpy.

rANS (Duda 2013) keeps the message in an integer state; here several states (lanes) take turns, so that each step of the
loop codes as many symbols as there are lanes (Giesen 2014). Coding runs backwards, decoding forwards:

    symbols -> Encoder, last to first -> chunk of each layer -> Decoder, first to last -> symbols

States live in [2^16, 2^32), words are 16 bits, frequencies sum to 2^16. Short packets make lanes expensive, so both
ends of a lane's life are cheap: the first chunk holds each final state in just the bits that it has, and the lanes do
not start from nothing but from words that the lanes before them wrote (`_Taper`), as if they had been split off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.errors import PacketError
from edgesem.tables import PRECISION, Indices, Tables

MAX_LANES = 256
LANE_BITS = 4.6  # what a lane's two ends add to a message, on average
_LOW = 1 << 16  # smallest state
_TOTAL = np.uint64(1 << PRECISION)
_WORD = np.uint64(16)
_MASK = np.uint64(0xFFFF)
_TAPER_STEPS = 7  # log2 of the most rows that each smaller number of lanes codes
_QUICK_ROWS = 1000  # after the taper, so many rows are still no loss of time
_FEW_LANES = 32  # up to here plain Python is faster than numpy, whose every call costs as much as a few symbols

Symbols = npt.NDArray[np.int32]


def lanes_for(bits: float) -> int:
    """How many lanes a message of so many bits can afford: LANE_BITS for each, so less than 0.3 % for all."""
    lanes = 1
    while lanes < MAX_LANES and bits >= 3072 * lanes:
        lanes *= 2
    return lanes


class _Taper(NamedTuple):
    """Where the lanes get fewer: pass `at` halves them every 2^log_rows rows of its end, down to 2^log_width for the
    rest.

    What is decoded last was coded first, and by then few words exist for further lanes to start from.
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
    def choose(cls, passes: Sequence[Symbols], tables: Tables, lanes: int) -> _Taper:
        """In the last pass with bits enough to start all lanes, and as slowly as its bits a symbol ask for."""
        bits = [float(tables.bits[entries].sum()) for entries in passes]
        enough = [index for index, b in enumerate(bits) if b >= 20 * lanes]
        at = enough[-1] if enough else int(np.argmax(bits))
        each = bits[at] / max(passes[at].size, 1)
        after = sum(entries.size for entries in passes[at + 1 :])
        return cls(
            at,
            min(_TAPER_STEPS, max(0, math.ceil(math.log2(18 / max(each, 0.01))))),
            min(lanes.bit_length() - 1, max(0, math.ceil(math.log2(max(after / _QUICK_ROWS, 1))))),
        )


def encode(layers: Sequence[Sequence[Symbols]], tables: Tables, lanes: int) -> list[bytes]:
    """A chunk for each layer. `layers[k]` holds table entries (see Tables.entry), an array for each pass of layer k."""
    flat = [entries for passes in layers for entries in passes]
    taper = _Taper.choose(flat, tables, lanes)
    writer = _Writer(sum(entries.size for entries in flat), tables, lanes)
    writer.start_lanes(1 << taper.log_width)
    starts: list[int] = []  # where each layer's words start, the last layer first
    index = len(flat)
    for passes in reversed(layers):
        for entries in reversed(passes):
            index -= 1
            end = entries.size
            for width, count in reversed(taper.stretches(index, end, lanes)):
                writer.start_lanes(width)
                writer.put(entries[end - count : end], width)
                end -= count
            if index == taper.at:
                writer.start_lanes(lanes)
        starts = [max(place, writer.highest) for place in starts]  # lanes may have taken words of layers coded before
        starts.append(writer.top)
        writer.highest = writer.top
    ends = [*starts[-2::-1], writer.words.size]
    chunks = [writer.words[a:b].astype("<u2").tobytes() for a, b in zip(starts[::-1], ends, strict=True)]
    chunks[-1] = _strip_zero_words(chunks[-1], 2 * lanes)
    chunks[0] = _pack_head(writer.state, taper) + chunks[0]
    return chunks


class _Writer:
    """The lanes' states and the words written so far, `words[top:]`, the next to be read first.

    `highest` is the largest `top` since it was last set: from there on, nothing was taken back.
    """

    def __init__(self, symbols: int, tables: Tables, lanes: int) -> None:
        self.words = np.zeros(symbols + 2 * lanes, np.uint16)
        self.top = self.highest = symbols + lanes
        self.state = np.zeros(lanes, np.uint64)
        self._tables, self._active = tables, 0

    def start_lanes(self, width: int) -> None:
        count = width - self._active
        if count > 0:
            self.state[self._active : width] = self.words[self.top : self.top + count].astype(np.uint64) + np.uint64(
                _LOW
            )
            self.top += count
            self.highest = max(self.highest, self.top)
            self._active = width

    def put(self, entries: Symbols, width: int) -> None:
        """Code rows of `width` symbols, the last first."""
        if width <= _FEW_LANES:
            self._put_few(entries, width)
            return
        frequency, start = self._tables.frequency[entries], self._tables.start[entries]
        for place in range(entries.size - width, -1, -width):
            f = frequency[place : place + width]
            x = self.state[:width]
            full = x >= f << _WORD
            spilled = x[full]
            if spilled.size:
                self.words[self.top - spilled.size : self.top] = spilled & _MASK
                self.top -= spilled.size
                x = np.where(full, x >> _WORD, x)
            self.state[:width] = x + x // f * (_TOTAL - f) + start[place : place + width]

    def _put_few(self, entries: Symbols, width: int) -> None:
        """The same, symbol by symbol."""
        coding = self._tables.coding
        state = self.state[:width].tolist()
        spilled: list[int] = []
        lanes = cycle(range(width - 1, -1, -1))
        for lane, entry in zip(lanes, entries[::-1].tolist(), strict=False):
            frequency, start = coding[entry]
            x = state[lane]
            if x >> 16 >= frequency:
                spilled.append(x & 0xFFFF)
                x >>= 16
            state[lane] = x + x // frequency * (65536 - frequency) + start
        self.words[self.top - len(spilled) : self.top] = spilled[::-1]
        self.top -= len(spilled)
        self.state[:width] = state


class Decoder:
    """Reads the symbols of a packet's first layers, pass by pass.

    Raises PacketError when the chunks do not hold together.
    """

    def __init__(self, chunks: Sequence[bytes], tables: Tables) -> None:
        self._tables = tables
        self._state, self._taper, rest = _unpack_head(chunks[0])
        self._lanes = self._active = self._state.size
        if any(len(chunk) % 2 for chunk in (rest, *chunks[1:])):
            raise PacketError("packet: a layer ends inside a word")
        words = np.frombuffer(b"".join((rest, *chunks[1:])), "<u2")
        margin = np.zeros(
            2 * self._lanes, np.uint16
        )  # room for words that come back, and zero words that were not sent
        self._words, self._next = np.concatenate([margin, words, margin]), margin.size
        self._index, self._kept = 0, 1 << self._taper.log_width

    def read(self, scale: Indices) -> Symbols:
        """The table entries of the next pass, given the scale index of each symbol, [n]."""
        stretches = self._taper.stretches(self._index, scale.size, self._lanes)
        tapering = self._index == self._taper.at
        found, place = [np.empty(0, np.int32)], 0
        for number, (width, count) in enumerate(stretches):
            if tapering:
                self._retire(max(width for width, _ in stretches[number:]))
            get = self._get_few if width <= _FEW_LANES else self._get
            found.append(get(scale[place : place + count], width))
            place += count
        if tapering:
            self._retire(0)
        self._index += 1
        return np.concatenate(found)

    def _get(self, scale: Indices, width: int) -> Symbols:
        """The entries of rows of `width` symbols."""
        lookup, frequency, start = self._tables.lookup, self._tables.frequency, self._tables.start
        entries = np.empty(scale.size, np.int32)
        base = scale.astype(np.uint64) << np.uint64(PRECISION)
        state = self._state[:width]
        for place in range(0, scale.size, width):
            slot = state & _MASK
            found = lookup[base[place : place + width] + slot]
            entries[place : place + width] = found
            x = frequency[found] * (state >> _WORD) + slot - start[found]
            low = np.flatnonzero(x < _LOW)
            if low.size:
                if self._next + low.size > self._words.size:
                    raise PacketError("packet: the symbols end early")
                x[low] = (x[low] << _WORD) | self._words[self._next : self._next + low.size]
                self._next += low.size
            state[:] = x
        return entries

    def _get_few(self, scale: Indices, width: int) -> Symbols:
        """The same, symbol by symbol: it tries the likeliest of each table before it looks one up."""
        lookup, coding, guesses = self._tables.lookup.data, self._tables.coding, self._tables.guesses
        state = self._state[:width].tolist()
        words = self._words[self._next : self._next + scale.size].tolist()
        taken = 0
        places: list[int] = []  # where the guess was wrong, and what stands there
        others: list[int] = []
        tried = zip(cycle(range(width)), map(guesses.__getitem__, scale.tolist()), strict=False)
        for place, (lane, (frequency, start, base)) in enumerate(tried):
            x = state[lane] - start
            within = x & 0xFFFF
            if within < frequency:
                x = frequency * (x >> 16) + within
            else:
                x += start
                slot = x & 0xFFFF
                entry = lookup[base + slot]
                places.append(place)
                others.append(entry)
                frequency, start = coding[entry]
                x = frequency * (x >> 16) + slot - start
            if x < 0x10000:
                if taken == len(words):
                    raise PacketError("packet: the symbols end early")
                x = x << 16 | words[taken]
                taken += 1
            state[lane] = x
        self._state[:width] = state
        self._next += taken
        entries = self._tables.likeliest.take(scale)
        entries[places] = others
        return entries

    def finish(self) -> None:
        """Check, after the last pass of the last layer, that nothing is left over."""
        self._kept = 0
        self._retire(0)
        if self._words[self._next :].any():
            raise PacketError("packet: words are left over after the last symbol")

    def _retire(self, width: int) -> None:
        """Give the words that lanes from `width` on had started from back to the stream; the last few lanes stay."""
        width = max(width, self._kept)
        if width >= self._active:
            return
        freed = self._state[width : self._active] - np.uint64(_LOW)
        if (freed > _MASK).any() or self._next < freed.size:
            raise PacketError("packet: a lane does not end where it started")
        self._next -= freed.size
        self._words[self._next : self._next + freed.size] = freed
        self._active = width


def _pack_head(state: npt.NDArray[np.uint64], taper: _Taper) -> bytes:
    """Number of lanes and taper in two bytes, then each state as 4 bits of length and the bits below its first one."""
    bits, length = 0, 0
    for x in state.tolist():
        size = x.bit_length() - 1  # 16 to 31
        bits = (bits << 4 | size - 16) << size | x ^ 1 << size
        length += 4 + size
    padding = -length % 8
    shape = state.size.bit_length() - 1 | taper.at << 4 | taper.log_rows << 8 | taper.log_width << 12
    return shape.to_bytes(2, "little") + (bits << padding).to_bytes((length + padding) // 8, "big")


def _unpack_head(chunk: bytes) -> tuple[npt.NDArray[np.uint64], _Taper, bytes]:
    """The states that a first chunk begins with, the taper, and what follows them."""
    shape = int.from_bytes(chunk[:2], "little")
    log_lanes, taper = shape & 15, _Taper(shape >> 4 & 15, shape >> 8 & 15, shape >> 12)
    if len(chunk) < 2 or 1 << log_lanes > MAX_LANES or taper.log_rows > _TAPER_STEPS or taper.log_width > log_lanes:
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
    return np.array(states, np.uint64), taper, chunk[2 + len(head) - left // 8 :]


def _strip_zero_words(chunk: bytes, most: int) -> bytes:
    """The chunk without its last words that are zero, up to as many as a decoder has beyond the end."""
    words = len(chunk) // 2
    fewest = max(0, words - most)
    while words > fewest and not chunk[2 * words - 2] and not chunk[2 * words - 1]:
        words -= 1
    return chunk[: 2 * words]

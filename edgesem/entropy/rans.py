"""Interleaved rANS coder: one stream of words over all layers of a packet, in integers.

rANS (J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013) keeps the message in an integer state. Here several
states, the lanes, take turns (F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, 2014), so that each step of the
loop codes as many symbols as there are lanes. Coding runs backwards, decoding forwards:

    symbols -> encode, last to first -> chunk of each layer -> Decoder, first to last -> symbols

States lie in [2^16, 2^32), words have 16 bits, frequencies sum to 2^16. A symbol of frequency f and start s turns state
x into (x // f) * 2^16 + x % f + s; before that, x spills its low word if x >= f * 2^16. How lanes begin and end is in
edgesem.entropy.lane_termination. The loops are compiled (edgesem.entropy.kernel) where that could be, and else, to the
same bytes, plain Python and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt

from edgesem.entropy import kernel
from edgesem.entropy.lane_termination import MAX_LANES, LaneTermination, pack_head, unpack_head
from edgesem.entropy.tables import PRECISION, Indices, Tables
from edgesem.errors import PacketError

LANE_BITS = 4.6  # mean cost of a lane's two ends in a message
_WIDE = 128  # with fewer lanes numpy is no faster than plain Python with one
_WORTH_BITS = 800  # a message of so many bits a lane loses half a percent to them, and no longer counts every byte
_LOW = 1 << 16  # smallest state
_TOTAL = np.uint64(1 << PRECISION)
_WORD = np.uint64(16)
_MASK = np.uint64(0xFFFF)
_FEW_LANES = 32  # up to here plain Python is faster than numpy, whose every call costs as much as a few symbols

Symbols = npt.NDArray[np.int32]


def lanes_for(bits: float) -> int:
    """How many lanes a message of so many bits is coded with: one, or as many as make it fast for half a percent."""
    lanes = _WIDE
    while lanes < MAX_LANES and bits >= _WORTH_BITS * 2 * lanes:
        lanes *= 2
    return lanes if bits >= _WORTH_BITS * lanes else 1


def encode(layers: Sequence[Sequence[Symbols]], tables: Tables, lanes: int) -> list[bytes]:
    """A chunk for each layer. `layers[k]` holds the entries, int32 [n], of each of its passes: see `Tables.entry`."""
    flat = [entries for passes in layers for entries in passes]
    termination = LaneTermination.choose(flat, tables, lanes)
    writer = _Writer(sum(entries.size for entries in flat), tables, lanes)
    writer.start_lanes(1 << termination.log_width)
    starts: list[int] = []  # where each layer's words start, the last layer first
    index = len(flat)
    for passes in reversed(layers):
        for entries in reversed(passes):
            index -= 1
            end = entries.size
            for width, count in reversed(termination.stretches(index, end, lanes)):
                writer.start_lanes(width)
                writer.put(entries[end - count : end], width)
                end -= count
            if index == termination.at:
                writer.start_lanes(lanes)
        starts = [max(place, writer.highest) for place in starts]  # lanes may have taken words of layers coded before
        starts.append(writer.top)
        writer.highest = writer.top
    ends = [*starts[-2::-1], writer.words.size]
    chunks = [writer.words[a:b].astype("<u2").tobytes() for a, b in zip(starts[::-1], ends, strict=True)]
    chunks[-1] = _strip_zero_words(chunks[-1], 2 * lanes)
    chunks[0] = pack_head(writer.state, termination) + chunks[0]
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
        self._kernel = kernel.load()

    def start_lanes(self, width: int) -> None:
        """Bring the number of lanes up to `width`: each new one starts from a word that was written last."""
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
        if self._kernel is not None:
            self.top -= self._kernel.put(self.state[:width], entries, self._tables, self.words[: self.top])
            return
        if width <= _FEW_LANES:
            words = self._put_few(entries, width)
            self.words[self.top - len(words) : self.top] = words[::-1]
            self.top -= len(words)
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

    def _put_few(self, entries: Symbols, width: int) -> list[int]:
        """The words that a few lanes write, the last to be read first."""
        coding = self._tables.coding
        state = self.state[:width].tolist()
        spilled: list[int] = []
        for lane, entry in zip(cycle(range(width - 1, -1, -1)), entries[::-1].tolist(), strict=False):
            limit, frequency, rest, start = coding[entry]
            x = state[lane]
            if x >= limit:
                spilled.append(x & 0xFFFF)
                x >>= 16
            state[lane] = x + x // frequency * rest + start
        self.state[:width] = state
        return spilled


class Decoder:
    """Reads the symbols of a packet's first layers, pass by pass.

    Raises PacketError when the chunks do not hold together.
    """

    def __init__(self, chunks: Sequence[bytes], tables: Tables) -> None:
        self._tables, self._kernel = tables, kernel.load()
        self._state, self._termination, rest = unpack_head(chunks[0])
        self._lanes = self._active = self._state.size
        if any(len(chunk) % 2 for chunk in (rest, *chunks[1:])):
            raise PacketError("packet: a layer ends inside a word")
        words = np.frombuffer(b"".join((rest, *chunks[1:])), "<u2")
        # Room for words that come back, and for zero words that were not sent
        margin = np.zeros(2 * self._lanes, np.uint16)
        self._words, self._next = np.concatenate([margin, words, margin]), margin.size
        self._index, self._kept = 0, 1 << self._termination.log_width

    def read(self, scale: Indices) -> Symbols:
        """The table entries of the next pass, given the scale index of each symbol, [n]."""
        stretches = self._termination.stretches(self._index, scale.size, self._lanes)
        terminating = self._index == self._termination.at
        found, place = np.empty(scale.size, np.int32), 0
        for number, (width, count) in enumerate(stretches):
            if terminating:
                self._retire(max(width for width, _ in stretches[number:]))
            found[place : place + count] = self._get(scale[place : place + count], width)
            place += count
        if terminating:
            self._retire(0)
        self._index += 1
        return found

    def _get(self, scale: Indices, width: int) -> Symbols:
        """The entries of rows of `width` symbols."""
        if self._kernel is not None:
            entries, taken = self._kernel.get(self._state[:width], scale, self._tables, self._words[self._next :])
            self._next += taken
            return entries
        if width <= _FEW_LANES:
            return self._get_one(scale) if width == 1 else self._get_few(scale, width)
        return self._get_many(scale, width)

    def _get_many(self, scale: Indices, width: int) -> Symbols:
        """The same in numpy, row by row."""
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

    def _get_one(self, scale: Indices) -> Symbols:
        """The same for one lane: it tries the likeliest symbol of each table before it looks one up."""
        lookup, decoding, guesses = self._tables.lookup.data, self._tables.decoding, self._tables.guesses
        x, words, taken = int(self._state[0]), self._coming(scale.size), 0
        places: list[int] = []  # where the guess was wrong, and what stands there
        others: list[int] = []
        for place, (frequency, start, base) in enumerate(map(guesses.__getitem__, scale.tolist())):
            x -= start
            within = x & 0xFFFF
            if within < frequency:
                x = frequency * (x >> 16) + within
            else:
                x += start
                slot = x & 0xFFFF
                entry = lookup[base + slot]
                places.append(place)
                others.append(entry)
                frequency, start = decoding[entry]
                x = frequency * (x >> 16) + slot - start
            if x < 0x10000:
                if taken == len(words):
                    raise PacketError("packet: the symbols end early")
                x = x << 16 | words[taken]
                taken += 1
        self._state[0] = x
        self._next += taken
        entries = self._tables.likeliest.take(scale)
        entries[places] = others
        return entries

    def _get_few(self, scale: Indices, width: int) -> Symbols:
        """The same for several lanes, symbol by symbol."""
        lookup, decoding = self._tables.lookup.data, self._tables.decoding
        state, words, taken = self._state[:width].tolist(), self._coming(scale.size), 0
        entries = []
        for lane, base in zip(cycle(range(width)), (scale << PRECISION).tolist(), strict=False):
            x = state[lane]
            slot = x & 0xFFFF
            entry = lookup[base + slot]
            entries.append(entry)
            frequency, start = decoding[entry]
            x = frequency * (x >> 16) + slot - start
            if x < 0x10000:
                if taken == len(words):
                    raise PacketError("packet: the symbols end early")
                x = x << 16 | words[taken]
                taken += 1
            state[lane] = x
        self._state[:width] = state
        self._next += taken
        return np.array(entries, np.int32)

    def _coming(self, most: int) -> list[int]:
        """The next words, as many as so many symbols can take."""
        words: list[int] = self._words[self._next : self._next + most].tolist()
        return words

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


def _strip_zero_words(chunk: bytes, most: int) -> bytes:
    """The chunk without its last words that are zero, up to as many as a decoder has beyond the end."""
    words = len(chunk) // 2
    fewest = max(0, words - most)
    while words > fewest and not chunk[2 * words - 2] and not chunk[2 * words - 1]:
        words -= 1
    return chunk[: 2 * words]

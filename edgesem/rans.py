"""Entropy coding: one interleaved rANS stream over all layers of a packet, in plain integer numpy.

rANS (Duda 2013) keeps the message in an integer state; here several states (lanes) take turns, so that each step of the
loop codes as many symbols as there are lanes (Giesen 2014). Coding runs backwards, decoding forwards:

    symbols -> Encoder, last to first -> chunk of each layer -> Decoder, first to last -> symbols

States live in [2^16, 2^32), words are 16 bits, frequencies sum to 2^16. Short packets make lanes expensive, so both ends
of a lane's life are cheap: the first chunk holds each final state in just the bits that it has, and the lanes do not start
from nothing but from words that the lanes before them wrote (`_row_widths`), as if they had been split off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgesem.errors import PacketError
from edgesem.tables import PRECISION, Tables

MAX_LANES = 256
LANE_BITS = 4.6  # what a lane's two ends add to a message, on average
_LOW = 1 << 16  # smallest state
_WORD = np.uint64(16)
_MASK = np.uint64(0xFFFF)
_MAX_TAPER = 7  # log2 of the most rows that each smaller number of lanes codes at the end

Symbols = npt.NDArray[np.int32]


def lanes_for(bits: float) -> int:
    """How many lanes a message of so many bits can afford: a lane costs LANE_BITS, so this keeps it below 0.6 %."""
    lanes = 1
    while lanes < MAX_LANES and bits >= 1536 * lanes:
        lanes *= 2
    return lanes


def _row_widths(count: int, lanes: int, taper: int) -> list[int]:
    """How many symbols each row of a pass holds, in decoding order.

    Rows are as wide as there are lanes. In the very last pass they get narrower towards the end, by half every `taper` rows:
    what is decoded last was coded first, and by then only few words exist for further lanes to start from.
    """
    tail: list[int] = []
    width = 1
    while taper and width < lanes and count > 0:
        for _ in range(taper):
            if count > 0:
                tail.append(min(width, count))
                count -= tail[-1]
        width *= 2
    full, rest = divmod(count, lanes)
    return [lanes] * full + [rest] * (rest > 0) + tail[::-1]


def encode(layers: Sequence[Sequence[Symbols]], tables: Tables, lanes: int) -> list[bytes]:
    """A chunk for each layer. `layers[k]` holds an array of table entries (see Tables.entry) for each pass of layer k."""
    total = sum(entries.size for passes in layers for entries in passes)
    writer = _Writer(total, lanes)
    cuts = []
    log_taper = _log_taper(layers[-1][-1], tables)
    taper = 1 << log_taper
    for passes in reversed(layers):
        for entries in reversed(passes):
            frequency, start = tables.frequency[entries], tables.start[entries]
            end = entries.size
            for width in reversed(_row_widths(end, lanes, taper)):
                writer.start_lanes(width)
                writer.put(frequency[end - width : end], start[end - width : end])
                end -= width
            writer.start_lanes(lanes)  # only the rows of the last pass are spared lanes
            taper = 0
        cuts.append(writer.top)
    ends = [*cuts[-2::-1], writer.words.size]
    chunks = [writer.words[a:b].astype("<u2").tobytes() for a, b in zip(cuts[::-1], ends, strict=True)]
    chunks[-1] = _strip_zero_words(chunks[-1])
    chunks[0] = _pack_states(writer.state, log_taper) + chunks[0]
    return chunks


def _log_taper(last_pass: Symbols, tables: Tables) -> int:
    """log2 of how many rows of the last pass it takes until each lane has written a word of 16 bits."""
    bits = float(tables.bits[last_pass].mean()) if last_pass.size else 16.0
    return min(_MAX_TAPER, max(0, math.ceil(math.log2(18 / max(bits, 0.01)))))


class _Writer:
    """The lanes' states and the words written so far, `words[top:]`, the next to be read first."""

    def __init__(self, symbols: int, lanes: int) -> None:
        self.words = np.zeros(symbols + 2 * lanes, np.uint16)
        self.top = symbols + lanes
        self.state = np.zeros(lanes, np.uint64)
        self._active = 0

    def start_lanes(self, width: int) -> None:
        count = width - self._active
        if count > 0:
            self.state[self._active : width] = self.words[self.top : self.top + count].astype(np.uint64) + np.uint64(_LOW)
            self.top += count
            self._active = width

    def put(self, f: npt.NDArray[np.uint64], start: npt.NDArray[np.uint64]) -> None:
        """Code one symbol in each of the first `f.size` lanes."""
        x = self.state[: f.size]
        full = x >= f << _WORD
        spilled = x[full]
        if spilled.size:
            self.words[self.top - spilled.size : self.top] = spilled & _MASK
            self.top -= spilled.size
            x = np.where(full, x >> _WORD, x)
        quotient = x // f
        self.state[: f.size] = (quotient << np.uint64(PRECISION)) + (x - quotient * f) + start


class Decoder:
    """Reads the symbols of a packet's first layers, pass by pass.

    `total_layers` is how many layers the encoder coded; `chunks` may hold only the first of them.
    Raises PacketError when the chunks do not hold together.
    """

    def __init__(self, chunks: Sequence[bytes], total_layers: int, tables: Tables) -> None:
        self._tables, self._total_layers = tables, total_layers
        self._state, log_taper, rest = _unpack_states(chunks[0])
        self._taper = 1 << log_taper
        self._lanes = self._active = self._state.size
        parts, place = [np.zeros(self._lanes, np.uint16)], self._lanes
        self._ends = []
        for chunk in (rest, *chunks[1:]):
            if len(chunk) % 2:
                raise PacketError("packet: a layer ends inside a word")
            parts.append(np.frombuffer(chunk, "<u2").astype(np.uint16))
            place += len(chunk) // 2
            self._ends.append(place)
        parts.append(np.zeros(2 * self._lanes, np.uint16))  # zero words at the end are not sent
        self._words, self._next = np.concatenate(parts), self._lanes

    def read(self, scale: Symbols, layer: int, last_of_layer: bool) -> Symbols:
        """The table entries of the next pass, given the scale index of each symbol, int32 [n]."""
        closing = last_of_layer and layer == self._total_layers - 1
        entries = np.empty(scale.size, np.int32)
        lookup, frequency, start = self._tables.lookup, self._tables.frequency, self._tables.start
        base = scale.astype(np.int64) << PRECISION
        state, place = self._state, 0
        widths = _row_widths(scale.size, self._lanes, self._taper if closing else 0)
        for row, width in enumerate(widths):
            if closing:
                self._retire(max(widths[row:]))
            x = state[:width]
            slot = x & _MASK
            found = lookup[base[place : place + width] + slot.astype(np.int64)]
            entries[place : place + width] = found
            x = frequency[found] * (x >> np.uint64(PRECISION)) + slot - start[found]
            low = x < _LOW
            count = int(np.count_nonzero(low))
            if count:
                if self._next + count > self._words.size:
                    raise PacketError("packet: the symbols end early")
                x[low] = (x[low] << _WORD) | self._words[self._next : self._next + count]
                self._next += count
            state[:width] = x
            place += width
        if closing:
            self._retire(0)
            if self._words[max(self._next, 0) :].any():
                raise PacketError("packet: words are left over after the last symbol")
        elif last_of_layer and self._next != self._ends[layer]:
            raise PacketError(f"packet: layer {layer} does not end where its symbols end")
        return entries

    def _retire(self, width: int) -> None:
        """Give the words that lanes from `width` on had started from back to the stream."""
        if width >= self._active:
            return
        freed = self._state[width : self._active] - np.uint64(_LOW)
        if (freed > _MASK).any() or self._next < freed.size:
            raise PacketError("packet: a lane does not end where it started")
        self._next -= freed.size
        self._words[self._next : self._next + freed.size] = freed
        self._active = width


def _pack_states(state: npt.NDArray[np.uint64], log_taper: int) -> bytes:
    """log2 of the number of lanes and of the taper in a byte, then each state as 4 bits of length and the bits below its leading one."""
    bits, length = 0, 0
    for x in state.tolist():
        size = x.bit_length() - 1  # 16 to 31
        bits = (bits << 4 | size - 16) << size | x ^ 1 << size
        length += 4 + size
    padding = -length % 8
    return bytes([state.size.bit_length() - 1 | log_taper << 4]) + (bits << padding).to_bytes((length + padding) // 8, "big")


def _unpack_states(chunk: bytes) -> tuple[npt.NDArray[np.uint64], int, bytes]:
    """The states that a first chunk begins with, log2 of the taper, and what follows them."""
    if not chunk or chunk[0] & 15 > MAX_LANES.bit_length() - 1 or chunk[0] >> 4 > _MAX_TAPER:
        raise PacketError("packet: the base layer does not begin with a number of lanes")
    lanes = 1 << (chunk[0] & 15)
    head = chunk[1 : 1 + lanes * 35 // 8 + 1]
    bits, left = int.from_bytes(head, "big"), 8 * len(head)
    states = []
    for _ in range(lanes):
        size = 16 + (bits >> left - 4 & 15) if left >= 4 else 32
        left -= 4 + size
        if left < 0:
            raise PacketError("packet: the base layer ends inside its lanes' states")
        states.append(1 << size | bits >> left & (1 << size) - 1)
    return np.array(states, np.uint64), chunk[0] >> 4, chunk[1 + len(head) - left // 8 :]


def _strip_zero_words(chunk: bytes) -> bytes:
    words = len(chunk) // 2
    while words and not chunk[2 * words - 2] and not chunk[2 * words - 1]:
        words -= 1
    return chunk[: 2 * words]

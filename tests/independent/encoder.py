"""An entropy encoder after bitstream.md, section 11, rules 4 and 5. The tests code random symbols with it."""

from __future__ import annotations

from tests.independent.rans import LOW, Lanes, Tables

Coded = tuple[int, int]  # a symbol and its table


def stretches(shape: Lanes, number: int, count: int) -> list[tuple[int, int]]:
    """Width and size of each stretch of equal rows of a pass, in decoding order."""
    narrow = 1 << shape.log_width
    tail: list[tuple[int, int]] = []
    full = narrow if number > shape.at else shape.lanes
    width = narrow
    while number == shape.at and width < shape.lanes:
        size = min(width << shape.log_rows, count)
        tail[:0] = [(size % width, size % width), (width, size - size % width)]
        count -= size
        width *= 2
    found = [(full, count - count % full), (count % full, count % full), *tail]
    return [(width, size) for width, size in found if size > 0]


class Encoder:
    """Codes the symbols of a frame backwards, the last one first."""

    def __init__(self, shape: Lanes, tables: Tables) -> None:
        self.shape, self.tables = shape, tables
        self.states: list[int] = []
        self.stack: list[tuple[int, int]] = []  # words, each with the layer that pushed it

    def start_lanes(self, end: int) -> None:
        """Start lanes up to `end` (not included) from words of the stack."""
        while len(self.states) < end:
            self.states.append(LOW + (self.stack.pop()[0] if self.stack else 0))

    def put(self, lane: int, coded: Coded, layer: int) -> None:
        """Code one symbol on one lane."""
        symbol, table = coded
        place, state = symbol + self.tables.radius[table], self.states[lane]
        frequency = self.tables.frequency[table][place]
        if state >= frequency << 16:
            self.stack.append((state & 0xFFFF, layer))
            state >>= 16
        self.states[lane] = (state // frequency << 16) + state % frequency + self.tables.below[table][place]

    def head(self) -> bytes:
        """The head of the base layer's chunk."""
        shape = self.shape
        bits = "".join(f"{x.bit_length() - 17:04b}" + f"{x:b}"[1:] for x in self.states)
        bits += "0" * (-len(bits) % 8)
        first = shape.lanes.bit_length() - 1 | shape.at << 4 | shape.log_rows << 8 | shape.log_width << 12
        return first.to_bytes(2, "little") + int(bits, 2).to_bytes(len(bits) // 8, "big")

    def encode(self, passes: list[list[Coded]], layers: list[int]) -> tuple[bytes, ...]:
        """The chunks of the layers; `layers` has that of each pass."""
        self.start_lanes(self.shape.lanes if self.shape.at >= len(passes) else 1 << self.shape.log_width)
        for number in reversed(range(len(passes))):
            place = len(passes[number])
            for width, size in reversed(stretches(self.shape, number, place)):
                self.start_lanes(width)
                for _ in range(size):
                    place -= 1
                    size -= 1
                    self.put(size % width, passes[number][place], layers[number])
            if number == self.shape.at:
                self.start_lanes(self.shape.lanes)
        chunks = [
            b"".join(word.to_bytes(2, "little") for word, layer in reversed(self.stack) if layer == wanted)
            for wanted in range(max(layers) + 1)
        ]
        for _ in range(2 * self.shape.lanes):
            chunks[-1] = chunks[-1].removesuffix(b"\0\0")
        return (self.head() + chunks[0], *chunks[1:])

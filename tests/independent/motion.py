"""Motion of a packet (protocol.md, section 5)."""

from __future__ import annotations

from tests.independent.refusal import RefusedError

Vector = tuple[int, int]
Motion = dict[tuple[int, int], Vector]


def read_motion(data: bytes, h: int, w: int) -> Motion:
    """The vector of each block, by its row and column."""
    bits = [byte >> (7 - place) & 1 for byte in data for place in range(8)]
    if not 1 <= len(data) <= 64 or bits.pop(0) != 0:
        raise RefusedError("side information", "motion")

    def number() -> int:
        zeros = 0
        while bits and bits[0] == 0:
            zeros += 1
            del bits[0]
        code, bits[: zeros + 1] = bits[: zeros + 1], []
        if len(code) < zeros + 1 or zeros > 17:
            raise RefusedError("side information", "motion ends inside a number")
        return sum(bit << place for place, bit in enumerate(reversed(code))) - 1

    def vector(before: Vector) -> Vector:
        codes = number(), number()
        down, right = ((code + 1) // 2 if code % 2 else -(code // 2) for code in codes)
        found = before[0] + down, before[1] + right
        if any(abs(part) > 255 for part in found):
            raise RefusedError("side information", "motion by too much")
        return found

    usual = last = vector((0, 0))
    across = -(-w // 4)
    blocks = {(row, column): usual for row in range(-(-h // 4)) for column in range(across)}
    place = -1
    while 1 in bits:
        place += number() + 1
        last = vector(last)
        if divmod(place, across) not in blocks:
            raise RefusedError("side information", "motion beyond the picture")
        blocks[divmod(place, across)] = last
    if len(bits) >= 8:
        raise RefusedError("side information", "motion with more behind it")
    return blocks

"""A small CBOR decoder (RFC 8949) for the messages of protocol.md, section 9.

It knows integers, byte and text strings, arrays, maps, booleans, null and floats, in any valid encoding. It interprets
no tag: a tagged item is refused, as are other simple values, equal keys and bytes after the item.
"""

from __future__ import annotations

import struct
from typing import Any

from tests.independent.refusal import RefusedError

DEEPEST = 8
FLOATS = {25: ">e", 26: ">f", 27: ">d"}
SIMPLE = {20: False, 21: True, 22: None}
BREAK = object()


class Decoder:
    """Reads items from bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        """The next bytes; refuses if there are fewer."""
        if self.place + count > len(self.data):
            raise RefusedError("cbor", "ends early")
        taken = self.data[self.place : self.place + count]
        self.place += count
        return taken

    def item(self, depth: int = 0, may_break: bool = False) -> Any:
        """The next item, or BREAK where an indefinite length may end."""
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if major == 6:
            raise RefusedError("cbor", "a tag")
        if depth > DEEPEST or 28 <= low <= 30:
            raise RefusedError("cbor", "too deep or not defined")
        if first == 0xFF:
            if not may_break:
                raise RefusedError("cbor", "a break")
            return BREAK
        if major == 7:
            return self.simple(low)
        count = self.argument(low)
        if major in (0, 1):
            if count is None:
                raise RefusedError("cbor", "an integer without an end")
            return count if major == 0 else -1 - count
        if major in (2, 3):
            return self.string(major, count)
        if major == 4:
            return self.elements(count, depth)
        return self.pairs(count, depth)

    def argument(self, low: int) -> int | None:
        """The number of the first bytes; None is an indefinite length."""
        if low < 24:
            return low
        return None if low == 31 else int.from_bytes(self.take(1 << (low - 24)), "big")

    def simple(self, low: int) -> Any:
        """A float, a boolean or null."""
        if low in FLOATS:
            return struct.unpack(FLOATS[low], self.take(1 << (low - 24)))[0]
        if low not in SIMPLE:
            raise RefusedError("cbor", f"simple value {low}")
        return SIMPLE[low]

    def string(self, major: int, count: int | None) -> bytes | str:
        """A byte or text string, perhaps in pieces. Each piece of a text is UTF-8 by itself."""
        if count is None:
            pieces: list[Any] = []
            while (first := self.take(1)[0]) != 0xFF:
                length = self.argument(first & 31) if first >> 5 == major and first & 31 < 28 else None
                if length is None:
                    raise RefusedError("cbor", "a piece of another type")
                pieces.append(self.string(major, length))
            return b"".join(pieces) if major == 2 else "".join(pieces)
        raw = self.take(count)
        if major == 2:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise RefusedError("cbor", "no UTF-8") from error

    def elements(self, count: int | None, depth: int) -> list[Any]:
        """An array."""
        found: list[Any] = []
        while count is None or len(found) < count:
            value = self.item(depth + 1, may_break=count is None)
            if value is BREAK:
                break
            found.append(value)
        return found

    def pairs(self, count: int | None, depth: int) -> dict[str, Any]:
        """A map. Only text keys, each once."""
        found: dict[str, Any] = {}
        while count is None or len(found) < count:
            key = self.item(depth + 1, may_break=count is None)
            if key is BREAK:
                break
            if not isinstance(key, str) or key in found:
                raise RefusedError("cbor", "a key that is no text or stands twice")
            found[key] = self.item(depth + 1)
        return found


def loads(data: bytes) -> Any:
    """The one item that `data` is."""
    decoder = Decoder(data)
    value = decoder.item()
    if decoder.place != len(data):
        raise RefusedError("cbor", "bytes after the item")
    return value

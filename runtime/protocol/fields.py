"""Reader of a small CBOR map from outside, with bounds: birth, state and command messages are such maps.

Rule of extension: within one protocol version, entries that a reader does not know are skipped, so that a later program
may add optional ones. What a reader knows must be there, of the right type and in its bounds.
"""

from __future__ import annotations

import math
from typing import Any

import cbor2

from edgesem.errors import PacketError
from edgesem.packet.plain_cbor import check_plain_cbor

MAX_DEPTH = 4
"""How deep lists and maps may lie in one another. Our own need 1; the rest is for entries to come."""


def load_cbor(data: bytes, *, what: str, limit_bytes: int) -> Any:
    """The one CBOR item in `data`. PacketError for anything else, whatever the bytes are."""
    try:
        check_plain_cbor(data, limit_bytes, MAX_DEPTH)
    except PacketError as error:
        raise PacketError(f"not a {what}: {error}") from None
    try:
        return cbor2.loads(data)
    except Exception as error:  # text that is not UTF-8, a map as a key
        raise PacketError(f"not a {what}: {type(error).__name__}") from error


class Fields:
    """Entries of a CBOR map, each read once by name, type and bounds; others are skipped.

    All methods raise PacketError.
    """

    def __init__(self, data: bytes, *, what: str, limit_bytes: int) -> None:
        item = load_cbor(data, what=what, limit_bytes=limit_bytes)
        if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
            raise PacketError(f"not a {what}: must be a map with text keys")
        self._left: dict[str, Any] = dict(item)
        self._what = what

    def integer(self, key: str, high: int, low: int = 0) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(key)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def integers(self, key: str, high: int, count: int) -> tuple[int, ...]:
        """So many whole numbers from 0 to `high`; what stands behind them is for readers to come."""
        value = self._take(key)
        if not isinstance(value, list) or len(value) < count:
            raise self._wrong(key, f"{count} whole numbers")
        if not all(type(one) is int and 0 <= one <= high for one in value[:count]):
            raise self._wrong(key, f"whole numbers from 0 to {high}")
        return tuple(value[:count])

    def maybe_integer(self, key: str, high: int) -> int | None:
        """A whole number from 0 to `high`, or null."""
        return self.integer(key, high) if self._left.get(key) is not None else self._take(key)

    def number(self, key: str, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self._take(key)
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise self._wrong(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._take(key)
        if type(value) is not bool:
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str, limit: int) -> str:
        """Printable text of at most `limit` characters."""
        value = self._take(key)
        if not isinstance(value, str) or len(value) > limit or not (value.isprintable() or not value):
            raise self._wrong(key, f"printable text of at most {limit} characters")
        return value

    def raw(self, key: str, size: int, *, exact: bool = True) -> bytes:
        """Bytes: exactly `size` of them, or at most so many."""
        value = self._take(key)
        if not isinstance(value, bytes) or len(value) > size or (exact and len(value) < size):
            raise self._wrong(key, f"{'exactly' if exact else 'at most'} {size} bytes")
        return value

    def __contains__(self, key: str) -> bool:
        """Whether there is such an entry, not read yet."""
        return key in self._left

    def _take(self, key: str) -> Any:
        try:
            return self._left.pop(key)
        except KeyError:
            raise PacketError(f"{self._what}: {key} is missing") from None

    def _wrong(self, key: str, wanted: str) -> PacketError:
        return PacketError(f"{self._what}: {key} must be {wanted}")

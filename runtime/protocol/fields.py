"""Reader of a small CBOR map from outside, with bounds: birth, state and command messages are such maps."""

from __future__ import annotations

import io
import math
from typing import Any

import cbor2

from edgesem.errors import PacketError


def load_cbor(data: bytes, *, what: str, limit_bytes: int) -> Any:
    """The one CBOR item in `data`. PacketError for anything else, whatever the bytes are."""
    if len(data) > limit_bytes:
        raise PacketError(f"not a {what}: {len(data)} bytes, at most {limit_bytes} can be")
    stream = io.BytesIO(data)
    try:
        item = cbor2.load(stream)
    except Exception as error:  # a tag's decoder may raise anything; the bytes are a stranger's
        raise PacketError(f"not a {what}: {type(error).__name__}") from error
    if stream.read(1):
        raise PacketError(f"not a {what}: there is more after its end")
    return item


class Fields:
    """Entries of a CBOR map, each read once by name, type and bounds. All methods raise PacketError."""

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

    def end(self) -> None:
        """All entries have been taken; an unknown one is an error."""
        if self._left:
            raise PacketError(f"{self._what}: {len(self._left)} unknown entries")

    def _take(self, key: str) -> Any:
        try:
            return self._left.pop(key)
        except KeyError:
            raise PacketError(f"{self._what}: {key} is missing") from None

    def _wrong(self, key: str, wanted: str) -> PacketError:
        return PacketError(f"{self._what}: {key} must be {wanted}")

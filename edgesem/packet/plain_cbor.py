"""Check of CBOR from outside (RFC 8949), before a library reads it: plain values only, and bounds on what they cost.

A CBOR library does more than a message needs: it acts on tags (big numbers, dates, regular expressions, shared values),
and some of these cost seconds for a few hundred bytes. This scan reads the heads of all items and builds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.errors import PacketError

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22
_FLOATS = (25, 26, 27)  # of 2, 4 and 8 bytes
_INDEFINITE = 31
_BREAK = 0xFF


def check_plain_cbor(data: bytes, max_bytes: int, max_depth: int) -> None:
    """PacketError unless `data` is one item of plain CBOR, with nothing behind it.

    Plain are maps, lists, texts, bytes, integers, floats, true, false and null; any tag is refused, whatever it is,
    and so is a list or map as the key of a map.
    max_bytes: the largest size of `data`. max_depth: how many lists and maps may lie in one another; 0 allows none.
    Takes time in proportion to the size, and no memory to speak of. Whether texts are UTF-8 is left to the reader.
    """
    if len(data) > max_bytes:
        raise PacketError(f"{len(data)} bytes, at most {max_bytes} can be")
    open_: list[_Open] = [_Open(1, False)]
    place = 0
    while open_:
        inner = open_[-1]
        if inner.left == 0:
            open_.pop()
        elif place >= len(data):
            raise PacketError("it is cut short")
        elif inner.left is None and data[place] == _BREAK:
            if inner.is_map and inner.read % 2:
                raise PacketError("a map ends after a key")
            inner.left = 0
            place += 1
        else:
            kind, value, place = _head(data, place)
            inner.read += 1
            inner.left = None if inner.left is None else inner.left - 1
            if kind in (_BYTES, _TEXT):
                place = _string(data, place, kind, value)
            elif kind in (_LIST, _MAP):
                if inner.is_map and inner.read % 2:  # this one is a key
                    raise PacketError("a list or map is the key of a map")
                if len(open_) > max_depth:
                    raise PacketError(f"lists and maps lie more than {max_depth} deep in one another")
                count = None if value is None else value * (2 if kind == _MAP else 1)
                if count is not None and count > len(data) - place:
                    raise PacketError("it is cut short")
                open_.append(_Open(count, kind == _MAP))
    if place < len(data):
        raise PacketError("there is more after its end")


@dataclass
class _Open:
    """A list or map whose items are being read; keys and values of a map count each."""

    left: int | None
    """How many items are still to come; None until a break."""
    is_map: bool
    read: int = 0


def _head(data: bytes, place: int) -> tuple[int, int | None, int]:
    """Major type, argument (None: indefinite length) and end of the head of an item; PacketError if it is not plain."""
    kind, short = data[place] >> 5, data[place] & 31
    place += 1
    if kind == _TAG:
        raise PacketError("it holds a tag, only plain values are allowed")
    if kind == _SIMPLE and short not in (_FALSE, _TRUE, _NULL, *_FLOATS):
        raise PacketError(f"it holds the simple value {short}, only true, false and null are allowed")
    if short < 24:
        return kind, short, place
    if short == _INDEFINITE and kind in (_BYTES, _TEXT, _LIST, _MAP):
        return kind, None, place
    if short > 27:
        raise PacketError("an item has a head that CBOR does not know")
    size = 1 << (short - 24)
    if place + size > len(data):
        raise PacketError("it is cut short")
    return kind, int.from_bytes(data[place : place + size], "big"), place + size


def _string(data: bytes, place: int, kind: int, length: int | None) -> int:
    """Where a string ends whose head ends at `place`; one of indefinite length is made of strings with a length."""
    if length is not None:
        if length > len(data) - place:
            raise PacketError("it is cut short")
        return place + length
    while place < len(data) and data[place] != _BREAK:
        inner, part, place = _head(data, place)
        if inner != kind or part is None:
            raise PacketError("a string is made of something else")
        place = _string(data, place, kind, part)
    if place >= len(data):
        raise PacketError("it is cut short")
    return place + 1

"""Events over HTTP: `GET /events`, the list, and `GET /events/SITE/DEVICE/STREAM/ID...`, pictures and clips."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from edgesem.errors import InputError, UsageError
from runtime.receiver.event_record import CLIP_TYPES, EVENTS, EventRecord
from runtime.receiver.event_store import EventStore

_MOST, _USUAL = 200, 50
_LAST_MS = 2**53
_FILE = re.compile(r"([0-9a-f]{8})(-sheet)?(\.jpg|\.mp4|\.webp)")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_PARTS = 5


def listing(
    store: EventStore | None,
    asked: Mapping[str, list[str]],
    others: Callable[[str | None, float, int], list[dict[str, Any]]] = lambda *_: [],
) -> dict[str, Any]:
    """The newest events, newest first: those of one `stream`, that began `before` a time, at most `limit`.

    `others` gives those of other receivers, of a stream or all, before a time (Unix seconds), and at most so many.
    Raises UsageError for a value that cannot be.
    """
    limit = _number(asked, "limit", 1, _MOST, _USUAL)
    before_ms = _number(asked, "before", 0, _LAST_MS, _LAST_MS)
    stream = asked.get("stream", [None])[0]
    records: list[EventRecord] = []
    more = False
    if store is not None:
        records, more = store.events(stream=stream, before_ms=before_ms, limit=limit)
    shown = [record.shown() for record in records]
    known = {(one["stream"], one["id"]) for one in shown}
    before_s = (before_ms - 0.5) / 1000  # a time in whole milliseconds is rounded
    shown += [one for one in others(stream, before_s, limit + 1) if (one["stream"], one["id"]) not in known]
    shown.sort(key=lambda one: (one["time_ms"], one["id"]), reverse=True)
    now_ms = time.time_ns() // 1_000_000
    return {"time_ms": now_ms, "events": shown[:limit], "more": more or len(shown) > limit}


def is_file(path: str) -> bool:
    """Whether a path is of an event's file; a picture of a stream has fewer parts."""
    return path.startswith(f"/{EVENTS}/") and path.count("/") == _PARTS


def file(store: EventStore | None, path: str) -> tuple[bytes, str]:
    """Content and media type of an event's file. InputError if there is none: only what is listed is opened."""
    _, _, *stream, name = path.split("/")
    match = _FILE.fullmatch(name)
    record = None
    if match is not None and store is not None:
        record = store.find("/".join(map(unquote, stream)), match[1])
    if record is None or match is None or store is None:
        raise InputError("no such event is here")
    if match[3] == ".jpg":
        found, kind = (record.sheet_file if match[2] else record.picture_file)(store.folder), "image/jpeg"
    elif match[2] or record.clip != match[3]:
        raise InputError("this event has no such clip")
    else:
        found, kind = record.folder(store.folder) / f"{record.name}{record.clip}", CLIP_TYPES[match[3]]
    try:
        return found.read_bytes(), kind
    except OSError as error:
        raise InputError(f"it is not here any more: {error.strerror}") from error


def byte_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte of what a Range header asks for; None for all of it: no range, several, or none that can be.

    Players of phones ask for a clip in parts, and refuse one that does not come so.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        first, last = max(0, size_bytes - int(match[2])), size_bytes - 1
    else:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size_bytes - 1, size_bytes - 1)
    return (first, last) if first <= last else None


def _number(asked: Mapping[str, list[str]], name: str, low: int, high: int, usual: int) -> int:
    text = asked.get(name, [str(usual)])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
        raise UsageError(f"{name} must be a whole number from {low} to {high}")
    return int(text)

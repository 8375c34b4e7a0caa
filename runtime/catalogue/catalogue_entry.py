"""Entries of the catalogue: frames, events and totals of streams as rows of the database say, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgesem.errors import EdgesemError, InputError
from edgesem.packet.event_mark import MAX_LABEL_BYTES
from edgesem.packet.packet import MAX_LAYERS, MAX_PACKET_BYTES
from runtime.catalogue.objects import MAX_OBJECT_BYTES, check_name
from runtime.protocol.topics import Topics
from runtime.receiver.archive_entry import Entry, Total

ENTRY_COLUMNS = (
    "streams.name, f.epoch, f.frame, f.captured_s, f.layers, f.size_bytes, f.promised, f.grey, "
    "segments.name, f.start, f.time_ms"
)
"""Of `entry_of`, in its order."""
_MOST_CAUSE = 16
_LATEST_S = 253_402_300_799.0  # of the year 9999


@dataclass(frozen=True)
class CatalogueEntry(Entry):
    """One frame of the catalogue; `id` is 0, as its names are what tells it apart."""

    segment: str = ""
    """Name of the object that has its packet."""
    start: int = 0
    """First byte of it there."""
    time_ms: int = 0
    """The sender's clock at capture, as its packet has it."""


class CatalogueEvent(NamedTuple):
    """One event, as the marks of its frames say."""

    stream: str
    id: str
    """8 hexadecimal digits, drawn by its sender."""
    begun_s: float
    """Unix time."""
    cause: str
    label: str
    frames: int
    """Of it, so many are catalogued."""
    first_s: float
    last_s: float
    """Capture of the first and of the last one of these, in Unix seconds."""


def entry_of(row: Sequence[Any]) -> CatalogueEntry:
    """The entry of a row of `ENTRY_COLUMNS`. InputError for values that no receiver has written."""
    try:
        stream, epoch, frame, captured_s, layers, size_bytes, promised, grey, segment, start, time_ms = row
        Topics.named(stream)
        check_name(segment)
        if not (
            all(type(one) is int for one in (epoch, frame, layers, size_bytes, start, time_ms))
            and min(epoch, frame) >= 0
            and max(epoch, frame, abs(time_ms)) < 2**53
            and abs(captured_s) <= _LATEST_S
            and 1 <= layers <= MAX_LAYERS
            and 0 < size_bytes <= MAX_PACKET_BYTES
            and 0 <= start <= MAX_OBJECT_BYTES
        ):
            raise ValueError(f"frame {frame!r:.30} of {stream}")
    except (EdgesemError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"a row of the catalogue is damaged: {error!s:.200}") from error
    return CatalogueEntry(
        0, stream, epoch, frame, captured_s, layers, size_bytes, bool(promised), bool(grey), segment, start, time_ms
    )


def total_of(row: Sequence[Any]) -> Total:
    """What is catalogued of a stream. InputError for values that no receiver has written."""
    total = Total(*row)
    try:
        Topics.named(total.stream)
        if not all(abs(one) <= _LATEST_S for one in (total.first_s, total.last_s)):
            raise ValueError(f"a time of {total.stream}")
    except (EdgesemError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"a row of the catalogue is damaged: {error!s:.200}") from error
    return total


def event_of(row: Sequence[Any]) -> CatalogueEvent:
    """The event of a row. InputError for values that no receiver has written."""
    try:
        stream, event, begun_s, cause, label, frames, first_s, last_s = row
        Topics.named(stream)
        if not (
            type(event) is type(frames) is int
            and all(isinstance(text, str) and text.isprintable() for text in (cause, label))
            and len(cause) <= _MOST_CAUSE
            and len(label) <= MAX_LABEL_BYTES
            and 0 < event < 2**32
            and frames > 0
            and all(abs(one) <= _LATEST_S for one in (begun_s, first_s, last_s))
        ):
            raise ValueError(f"one of {stream}")
    except (EdgesemError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"an event of the catalogue is damaged: {error!s:.200}") from error
    return CatalogueEvent(stream, f"{event:08x}", begun_s, cause, label, frames, first_s, last_s)

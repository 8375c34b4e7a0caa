"""Streams that this receiver does not hear, as a catalogue has them: other receivers of the fleet take them."""

from __future__ import annotations

import time
from typing import Any, Protocol
from urllib.parse import quote

from runtime.protocol.topics import Topics
from runtime.receiver.archive_entry import Entry
from runtime.receiver.event_record import EventRecord
from runtime.receiver.stream_receiver import StreamReceiver

_DEAD_S = 86400.0
"""A stream without a picture for so long is shown as one that sends no more: a catalogue does not say how often it
does."""


class Fleet(Protocol):
    """What receivers of a fleet have taken together. Empty while that is not known."""

    def latest(self) -> list[Entry]:
        """The newest frame of each stream that had one lately."""

    def events(self, stream: str | None, before_s: float, most: int) -> list[EventRecord]:
        """The newest events of a stream, or of all, that began before a time (Unix seconds), newest first."""


def streams(fleet: Fleet | None, receiver: StreamReceiver) -> list[dict[str, Any]]:
    """Streams that the receiver was asked for but does not hear, in the form of `runtime.web.overview`.

    Of a picture, what stands in its packet only is not there; its `number` is the time of capture in Unix milliseconds.
    """
    if fleet is None:
        return []
    now_s = time.time()
    return [_stream(entry, now_s) for entry in fleet.latest() if is_elsewhere(entry.stream, receiver)]


def is_elsewhere(stream: str, receiver: StreamReceiver) -> bool:
    """Whether the receiver was asked for a stream, but does not hear it."""
    return receiver.streams.find(stream) is None and receiver.asks_for(Topics.named(stream))


def events(
    fleet: Fleet | None, receiver: StreamReceiver, stream: str | None, before_s: float, most: int
) -> list[dict[str, Any]]:
    """Events of such streams in the form of `EventRecord.shown`; their picture is the one of their beginning, and clips
    are where the receiver is that took them."""
    if fleet is None:
        return []
    found = [one for one in fleet.events(stream, before_s, most) if is_elsewhere(one.stream, receiver)]
    return [one.shown() | {"clip": None, "clip_type": None, "sheet": None, "picture": _picture(one)} for one in found]


def _picture(event: EventRecord) -> str:
    path = "/".join(quote(part, safe="") for part in event.stream.split("/"))
    return f"{path}.jpg?at={max(0, event.time_ms + round(1000 * max(0.0, event.first_s)))}"


def _stream(entry: Entry, now_s: float) -> dict[str, Any]:
    age_s = round(max(0.0, now_s - entry.captured_s), 1)
    picture = {
        "number": round(entry.captured_s * 1000),
        "epoch": entry.epoch,
        "frame": entry.frame,
        "size_bytes": entry.size_bytes,
        "layers": entry.layers,
        "promised": entry.promised,
        "age_s": age_s,
    }
    nothing = dict.fromkeys(("snapshot", "trouble", "detail", "steps", "realism", "state", "interval_s"))
    return {
        "name": entry.stream,
        "elsewhere": True,
        "picture": picture,
        "heard_s": age_s,
        "silent_s": _DEAD_S,
        "two_senders": False,
        "viewed": False,
        "counters": {},
        "samples": [],
        **nothing,
    }

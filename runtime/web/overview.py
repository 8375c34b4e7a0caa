"""All that the live page shows, as JSON can hold it."""

from __future__ import annotations

import time
from typing import Any

from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery


def overview(stream_receiver: StreamReceiver, gallery: Gallery, since_ms: int = 0) -> dict[str, Any]:
    """Every stream with its latest picture, link, counters, and the samples after `since_ms`."""
    return {
        "time_ms": time.time_ns() // 1_000_000,
        "connected": stream_receiver.connection.connected,
        "max_steps": stream_receiver.max_steps,
        "streams": [_told(stream, gallery, since_ms) for stream in stream_receiver.streams.all()],
    }


def _told(stream: Stream, gallery: Gallery, since_ms: int) -> dict[str, Any]:
    shown = gallery.latest(stream.name)
    picture = None
    if shown is not None:
        picture = {name: value for name, value in vars(shown).items() if name not in ("jpeg", "shown_s")}
        picture["age_s"] = round(shown.age_s, 3)
    return {
        "name": stream.name,
        "picture": picture,
        "steps": stream.drawing.steps,
        "realism": stream.drawing.realism,
        "state": None if stream.state is None else stream.state.as_dict(),
        "counters": stream.inbox.counters.as_dict(),
        "samples": stream.history.since(since_ms),
    }

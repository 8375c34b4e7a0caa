"""Overview of a receiver as JSON: what `/streams.json` serves to the live page."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery


def overview(receiver: StreamReceiver, gallery: Gallery, since_ms: int = 0) -> dict[str, Any]:
    """Every stream with its latest picture, link, counters, and the samples after `since_ms`, Unix time."""
    return {
        "time_ms": time.time_ns() // 1_000_000,
        "connected": receiver.connection.connected,
        "max_steps": receiver.max_steps,
        "streams": [_stream(stream, gallery, since_ms) for stream in receiver.streams.all()],
    }


def _stream(stream: Stream, gallery: Gallery, since_ms: int) -> dict[str, Any]:
    latest = gallery.latest(stream.name)
    picture = None
    if latest is not None:
        picture = {"number": latest.number, **asdict(latest.info), "age_s": round(latest.age_s, 3)}
    return {
        "name": stream.name,
        "picture": picture,
        "steps": stream.synthesis.steps,
        "realism": stream.synthesis.realism,
        "state": None if stream.state is None else stream.state.as_dict(),
        "counters": asdict(stream.inbox.counters),
        "samples": stream.history.since(since_ms),
    }

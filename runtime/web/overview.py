"""Overview of a receiver as JSON: what `/streams.json` serves to the live page."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery, LatestPicture


def overview(
    receiver: StreamReceiver, gallery: Gallery, since_ms: int = 0, samples_of: str | None = None
) -> dict[str, Any]:
    """Every stream with its latest picture, link, counters, and the samples after `since_ms`, Unix time.

    `samples_of` names the one stream whose samples are wanted; None: those of all.
    """
    return {
        "time_ms": time.time_ns() // 1_000_000,
        "connected": receiver.connection.connected,
        "max_steps": receiver.max_steps,
        "streams": [
            _stream(stream, receiver, gallery, since_ms if samples_of in (None, stream.name) else None)
            for stream in receiver.streams.all()
        ],
    }


def _stream(stream: Stream, receiver: StreamReceiver, gallery: Gallery, since_ms: int | None) -> dict[str, Any]:
    latest, promised = gallery.latest(stream.name), gallery.latest_promised(stream.name)
    heard_s = time.monotonic() - stream.heard_s
    picture = None
    if latest is not None:
        picture = {"number": latest.number, **asdict(latest.info), "age_s": round(latest.age_s, 3)}
    return {
        "name": stream.name,
        "picture": picture,
        "snapshot": None if promised is None else {"frame": promised.info.frame, "age_s": round(promised.age_s, 3)},
        "heard_s": round(heard_s, 1) if math.isfinite(heard_s) else None,
        "trouble": trouble_of(stream, receiver),
        "two_senders": stream.has_two_senders,
        "detail": _detail(gallery.latest_detail(stream.name)),
        "viewed": receiver.viewing.is_watched(stream.name),
        "steps": stream.synthesis.steps,
        "realism": stream.synthesis.realism,
        "state": None if stream.state is None else stream.state.as_dict(),
        "counters": asdict(stream.inbox.counters),
        "interval_s": stream.interval_s,
        "silent_s": stream.silent_s,
        "samples": [] if since_ms is None else stream.history.since(since_ms),
    }


def _detail(latest: LatestPicture | None) -> dict[str, Any] | None:
    """The detail that came last, and which request it answers."""
    if latest is None:
        return None
    info = latest.info
    about = {"request": info.request, "frame": info.frame, "number": latest.number, "age_s": round(latest.age_s, 3)}
    return about | {"roi": info.detail, "width": info.width, "height": info.height, "size_bytes": info.size_bytes}


def trouble_of(stream: Stream, receiver: StreamReceiver) -> str | None:
    """Why there are no new pictures, or none that can be trusted; None if nothing is wrong."""
    ours = receiver.streams.bundle_ids
    if not receiver.connection.connected:
        return "no connection to the broker"
    if stream.has_two_senders:
        return "two senders share this name: give each its own"
    theirs = stream.inbox.other_bundle
    if theirs is None and stream.birth is not None and stream.birth.bundle_id not in ours:
        theirs = stream.birth.bundle_id
    if theirs is not None:
        have = ", ".join(f"{one:04x}" for one in ours)
        return f"it sends with bundle {theirs:04x}, this receiver has {have}: name it with --bundle too"
    if stream.absence:
        return stream.absence
    if stream.state is not None and stream.state.paused:
        return "paused"
    if stream.state is not None and stream.state.silent_s:
        return "its camera gives no picture"
    return None

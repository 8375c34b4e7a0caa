"""Looking back: what the archive has of a stream, and its pictures of a time, as HTTP requests ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgesem.errors import InputError, UsageError
from runtime.receiver.archive_viewer import ArchivedPicture, ArchiveViewer
from runtime.receiver.stream_receiver import StreamReceiver

MOST_TIMES = 600
_LATEST_MS = 253_402_300_799_999  # of the year 9999
_LONGEST_NEAR_MS = 86_400_000

Asked = Mapping[str, Sequence[str]]


def times(viewer: ArchiveViewer | None, asked: Asked) -> dict[str, Any]:
    """Answer to `/archive.json?stream=SITE/DEVICE/STREAM&since=MS&until=MS&count=N`: when frames were captured.

    They are the first in each of N equal parts of that time. Raises UsageError for a value that cannot be, InputError
    without an archive.
    """
    archive = _archive(viewer).archive
    stream = asked.get("stream", [""])[0]
    since_ms, until_ms = _whole(asked, "since", 0, _LATEST_MS), _whole(asked, "until", 1, _LATEST_MS)
    if since_ms >= until_ms:
        raise UsageError("until must be later than since")
    entries = archive.spread(stream, since_ms / 1000, until_ms / 1000, _whole(asked, "count", 1, MOST_TIMES))
    return {
        "stream": stream,
        "since_ms": since_ms,
        "until_ms": until_ms,
        "frames": [
            {"time_ms": round(one.captured_s * 1000), "size_bytes": one.size_bytes, "promised": one.promised}
            for one in entries
        ],
    }


def picture(viewer: ArchiveViewer | None, receiver: StreamReceiver, stream: str, asked: Asked) -> ArchivedPicture:
    """Answer to `/SITE/DEVICE/STREAM.jpg?at=MS&near=MS`: the picture that was captured last, then or before.

    It may be up to `near` milliseconds older, where that is faster to draw. It is drawn as the stream's live pictures
    are. Raises UsageError for a value that cannot be, InputError if there is none, and what `ArchiveViewer.picture`
    raises.
    """
    at_ms = _whole(asked, "at", 0, _LATEST_MS)
    near_ms = _whole(asked, "near", 0, _LONGEST_NEAR_MS) if "near" in asked else 0
    known = receiver.streams.find(stream)
    options = receiver.streams.synthesis if known is None else known.synthesis
    # A time in the list of times is rounded.
    return _archive(viewer).picture(stream, (at_ms + 0.5) / 1000, near_ms / 1000, options)


def _archive(viewer: ArchiveViewer | None) -> ArchiveViewer:
    if viewer is None:
        raise InputError("this receiver keeps no archive: start it with --out or --archive")
    return viewer


def _whole(asked: Asked, name: str, least: int, most: int) -> int:
    text = asked.get(name, [""])[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise UsageError(f"{name} must be a whole number from {least} to {most}")
    return int(text)

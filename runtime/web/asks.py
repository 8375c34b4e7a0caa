"""Requests to a sender that the live page may make: `POST /ask`, `/snapshot` and `/detail`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgesem.errors import UsageError
from runtime.protocol.command import MAX_PROMISED_BYTES, MIN_PROMISED_BYTES, PROMISED_BYTES, Command

KINDS = ("key", "pause", "resume", "region", "roi", "event", "budget")
_LONGEST_PAUSE_S = 86400


def command_of(asked: Mapping[str, Any]) -> Command:
    """The command in `{"kind": KIND, "box": [LEFT, TOP, WIDTH, HEIGHT] or null, "drop": LEVELS, "pause_s": SECONDS,
    "label": TEXT, "max_bytes": BYTES, "max_rate_bps": BITS}`.

    `box` is for a region or roi, in shares of the picture; null ends it. `max_bytes` and `max_rate_bps` are for a
    budget; 0: as at the sender's start. Raises UsageError or PacketError for what cannot be asked.
    """
    kind, box = asked.get("kind"), asked.get("box")
    drop, pause_s = asked.get("drop", Command.drop), asked.get("pause_s", 0)
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(KINDS)}")
    if type(drop) is not int:
        raise UsageError("drop must be a whole number of quality levels")
    if type(pause_s) not in (int, float) or not 0 <= pause_s <= _LONGEST_PAUSE_S:
        raise UsageError(f"pause_s must be 0 to {_LONGEST_PAUSE_S} seconds")
    label = asked.get("label", "")
    if kind == "event":
        if not isinstance(label, str):
            raise UsageError("label must be a text")
        return Command(kind, label=label)
    if kind == "budget":
        limits = {name: asked[name] for name in ("max_bytes", "max_rate_bps") if asked.get(name) is not None}
        if not limits or any(type(one) is not int for one in limits.values()):
            raise UsageError("a budget has max_bytes, max_rate_bps or both, in whole numbers")
        return Command(kind, **limits)
    if box is None:
        return Command(kind, drop=0 if kind == "region" else drop, pause_s=float(pause_s))
    return Command(kind, roi=_shares("box", box), drop=drop)


def detail_of(asked: Mapping[str, Any]) -> Command:
    """The command in `{"roi": [LEFT, TOP, WIDTH, HEIGHT], "size_bytes": BYTES}`, for a part of the picture in full
    resolution. Raises UsageError or PacketError for what cannot be asked."""
    return Command("detail", roi=_shares("roi", asked.get("roi")), size_bytes=size_of(asked))


def size_of(asked: Mapping[str, Any]) -> int:
    """The most bytes of a promised picture. Raises UsageError for a number that it cannot be."""
    size_bytes = asked.get("size_bytes", PROMISED_BYTES)
    if type(size_bytes) is not int or not MIN_PROMISED_BYTES <= size_bytes <= MAX_PROMISED_BYTES:
        raise UsageError(f"size_bytes must be a whole number from {MIN_PROMISED_BYTES} to {MAX_PROMISED_BYTES}")
    return size_bytes


def _shares(name: str, box: Any) -> tuple[float, float, float, float]:
    if not isinstance(box, list) or len(box) != 4 or any(type(one) not in (int, float) for one in box):
        raise UsageError(f"{name} must be [left, top, width, height] in shares of the picture")
    left, top, width, height = (float(one) for one in box)
    return left, top, width, height

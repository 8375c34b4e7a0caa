"""Report of `edgesem bench video` as plain data: all codecs on all clips, and edgesem's share of what the others take.

clips -> points of each codec, clip and rate -> means over the clips -> shares
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from edgesem.codec.codec import Codec
from edgesem.quality.metrics import Frame
from export.bench.rd.seen import trained_on
from export.bench.video import measure, peers
from export.bench.video.flicker import figures
from export.bench.video.measure import MEASURES, OURS, Judge, Row

Clips = Mapping[tuple[str, float], tuple[Sequence[Frame], float]]
"""Frames of a clip by its name and a rate that was asked for, and the rate that they have."""

_SHARES: dict[str, Callable[[Sequence[Row], Sequence[Row]], float | None]] = {
    "share_of_bytes": measure.share_at_equal_quality,
    "share_of_bytes_by_gmsd": partial(measure.share_at_equal_quality, measure="gmsd"),
    "share_of_encode_time": measure.share_of_time,
}
_MINE = "edgesem-reference"


def report(
    names: Sequence[str],
    codec: Codec,
    clips: Clips,
    *,
    key_interval_s: float,
    steps: int,
    judges: Mapping[str, Judge],
    done: Callable[[], None],
) -> dict[str, Any]:
    """All figures of the codecs in `names`; `done` is called after each setting of each codec, clip and rate."""
    by_clip: dict[str, dict[str, dict[str, list[Row]]]] = {}
    still: dict[str, Any] = {}
    flicker: dict[str, dict[str, Any]] = {}
    for (clip, rate_hz), (frames, real_hz) in clips.items():
        rate = f"{rate_hz:g}"
        rows = measure.points(names, codec, frames, real_hz, key_interval_s, done, steps=steps, judges=judges)
        for name, points in rows.items():
            by_clip.setdefault(clip, {}).setdefault(name, {})[rate] = points
        if names and clip not in still:
            still[clip] = measure.still(names, codec, frames[0], rate_hz)
        flicker.setdefault(clip, {})[rate] = figures(frames, frames)
    rates = list(dict.fromkeys(f"{rate_hz:g}" for _, rate_hz in clips))
    means = {name: {rate: _mean([found[name][rate] for found in by_clip.values()]) for rate in rates} for name in names}
    seen = trained_on(codec.bundle.manifest)
    return {
        "bundle": codec.bundle.digest,
        "background_pictures": len(codec.bundle.backgrounds),
        "judges": list(judges),
        "trained_on": seen,
        "untrained": None if seen is None else [one for one in (*MEASURES, *judges) if one not in seen],
        "versions": {name: peers.version(name) for name in names if name not in OURS},
        "frames": {clip: len(frames) for (clip, _), (frames, _) in clips.items()},
        "codecs": means,
        "by_clip": by_clip,
        "still": still,
        "flicker_of_clips": flicker,
        **_shares(means),
    }


def _shares(means: Mapping[str, Mapping[str, list[Row]]]) -> dict[str, Any]:
    """Of edgesem with references over each other codec, by rate."""
    mine = means.get(_MINE, {})
    others = {name: found for name, found in means.items() if name != _MINE} if mine else {}
    return {
        key: {
            f"{_MINE} / {name}": {rate: share(mine[rate], found[rate]) for rate in mine}
            for name, found in others.items()
        }
        for key, share in _SHARES.items()
    }


def _mean(rows: list[list[Row]]) -> list[Row]:
    """Means over clips, setting by setting: of a figure that a clip does not have, over the others."""
    return [{key: _known([row[key] for row in at]) for key in at[0]} for at in zip(*rows, strict=True)]


def _known(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")

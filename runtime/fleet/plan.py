"""Plan of a fleet: which shard takes which streams, and what decoding each shard will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from edgesem.errors import UsageError
from runtime.fleet.listener import HeardStream
from runtime.protocol.shard import shard_of
from runtime.protocol.topics import Topics


@dataclass(frozen=True)
class ShardLoad:
    """What one shard will bear."""

    index: int
    streams: tuple[str, ...]
    pictures_per_s: float
    cores: float
    """Decoder processes that are busy all the time, on a machine as fast as those that measured."""


@dataclass(frozen=True)
class FleetPlan:
    """Plan for `count` shards."""

    shards: tuple[ShardLoad, ...]
    measured: int
    """Streams whose decoding time was measured; of the others, the median of these or what was given is taken."""
    moving: int
    """Streams that would move to another shard if there were one shard more."""
    decode_s: float
    """Decoding time that is taken where none was measured."""


def plan(
    streams: Sequence[Topics],
    count: int,
    heard: Mapping[str, HeardStream],
    *,
    fps: float | None = None,
    decode_s: float | None = None,
) -> FleetPlan:
    """How `streams` fall to `count` shards. `heard` has measurements by the base of a stream's topics; `fps` and
    `decode_s` stand in where nothing was measured. UsageError if there is no stream, or nothing that stands in.
    """
    if not streams:
        raise UsageError("no stream is known: start senders, listen longer by --seconds, or name --inventory")
    times = [time for one in heard.values() if (time := one.decode_s) is not None]
    if decode_s is None and not times:
        raise UsageError("no receiver told how long a picture takes: start one, or name --decode-ms")
    usual_s = decode_s if decode_s is not None else median(times)
    rates = [rate for one in heard.values() if (rate := one.fps) is not None]
    if fps is None and not rates:
        raise UsageError("no sender told how many frames it sends a second: start one, or name --fps")
    usual_fps = fps if fps is not None else median(rates)
    names: list[list[str]] = [[] for _ in range(count)]
    pictures, cores = [0.0] * count, [0.0] * count
    moving = measured = 0
    for topics in streams:
        index = shard_of(topics, count)
        moving += shard_of(topics, count + 1) != index
        one = heard.get(topics.base)
        rate = one.fps if one is not None else None
        cost_s = one.decode_s if one is not None else None
        measured += cost_s is not None
        rate = usual_fps if rate is None else rate
        names[index].append(topics.name)
        pictures[index] += rate
        cores[index] += rate * (usual_s if cost_s is None else cost_s)
    loads = tuple(ShardLoad(index, tuple(names[index]), pictures[index], cores[index]) for index in range(count))
    return FleetPlan(loads, measured, moving, usual_s)

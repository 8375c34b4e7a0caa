"""Processor time of each stage of coding, all codecs side by side at the same rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from edgesem.files import read_picture
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import CodecUnderTest, finest
from export.bench.rd.clock import cpu_s
from export.bench.rd.codecs import BundleCodecs

ROUNDS = 3
# What somebody waits for, as sums of pieces, and the piece of another codec that it is compared with
_TOTALS = {
    "encode to a quality": (("analyze", "pack to a quality"), "encode"),
    "encode to a budget": (("analyze", "pack to a budget"), "encode"),
    "decode": (("unpack", "draw"), "decode"),
    "decode, 1 step": (("unpack", "draw, 1 step"), "decode"),
    "decode, 4 steps": (("unpack", "draw, 4 steps"), "decode"),
}

Pieces = Mapping[str, Callable[[], object]]


def time_stages(
    pictures: Sequence[Path],
    ours: BundleCodecs,
    others: Sequence[CodecUnderTest],
    bpp: float,
    rounds: int = ROUNDS,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Seconds of processor time of each piece, and edgesem's totals over those of each other codec.

    Means over the pictures of the least of `rounds` times. The codecs take turns, so that whatever slows the machine
    down hits all alike; a codec whose lowest quality is above `bpp` is timed there. done: is told of each picture.
    """
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    spent: dict[str, float] = defaultdict(float)
    for path in pictures:
        frame = read_picture(path)
        pixels = frame.shape[0] * frame.shape[1]
        budget_bytes = int(bpp * pixels / 8)
        pieces: dict[str, Pieces] = {}
        sizes: dict[str, int] = {}
        sizes["edgesem"], pieces["edgesem"] = ours.stages(frame, budget_bytes)
        for other in others:
            sizes[other.name], pieces[other.name] = _pieces(other, frame, budget_bytes)
        least: dict[tuple[str, str], float] = {}
        for _ in range(rounds):
            for name, named in pieces.items():
                for piece, work in named.items():
                    least[name, piece] = min(least.get((name, piece), 1e9), cpu_s(work))
        for (name, piece), value in least.items():
            seconds[name][piece] += value / len(pictures)
        for name, size in sizes.items():
            spent[name] += 8 * size / pixels / len(pictures)
        done()
    totals = {
        total: sum(seconds["edgesem"][piece] for piece in parts)
        for total, (parts, _) in _TOTALS.items()
        if all(piece in seconds["edgesem"] for piece in parts)
    }
    ratio = {
        other.name: {total: value / seconds[other.name][_TOTALS[total][1]] for total, value in totals.items()}
        for other in others
    }
    seconds["edgesem"].update(totals)
    graphs = {part: asdict(choice) for part, choice in ours.graphs.items()}
    codecs = {name: {"bpp": spent[name], "stages": dict(stages)} for name, stages in seconds.items()}
    return {"bpp": bpp, "pictures": len(pictures), "rounds": rounds, "codecs": codecs, "ratio": ratio, "graphs": graphs}


def _pieces(codec: CodecUnderTest, frame: Frame, budget_bytes: int) -> tuple[int, Pieces]:
    found = finest(partial(codec.encode, frame), budget_bytes, codec.highest)
    setting, data = found or (0, codec.encode(frame, 0))
    size = (frame.shape[0], frame.shape[1])
    return len(data), {
        "encode": lambda: codec.encode(frame, setting),
        "decode": lambda: codec.decode(data, size),
    }

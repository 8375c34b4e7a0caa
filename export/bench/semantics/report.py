"""Report of `edgesem measure`: information about a task that is kept at each size, by each codec.

observations -> Meaning (sets of labels) -> estimates at each setting -> curves, hulls, useful bits a second -> report
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import EstimateError
from edgesem.information import blahut, estimate
from export.bench.rd.baselines import ORIGINAL
from export.bench.rd.curves import family_of
from export.bench.semantics.link import Link, useful
from export.bench.semantics.meaning import Meaning, class_name
from export.bench.semantics.observations import Observation, dense

_COMPONENTS = 3  # of embeddings, for nearest neighbours
Array = NDArray[np.float64]


def report(
    observations: Sequence[Observation],
    judges: Mapping[str, Meaning],
    class_names: Sequence[str],
    link: Link | None,
    most_fps: float,
) -> dict[str, Any]:
    """All figures, judge by judge; what cannot be estimated is None, with the reason in `refused`."""
    groups: dict[tuple[str, float], list[Observation]] = {}
    for one in observations:
        groups.setdefault((one.codec, one.setting), []).append(one)
    originals = groups.pop((ORIGINAL, 0.0))
    refused: dict[str, str] = {}
    return {
        "pictures": len(originals),
        "judges": {
            name: _judged(name, meaning, originals, groups, class_names, link, most_fps, refused)
            for name, meaning in judges.items()
        },
        "link": None if link is None else {"name": link.name, "mean_bps": link.mean_bps, "most_fps": most_fps},
        "refused": refused,
    }


def _judged(
    judge: str,
    meaning: Meaning,
    originals: list[Observation],
    groups: Mapping[tuple[str, float], list[Observation]],
    class_names: Sequence[str],
    link: Link | None,
    most_fps: float,
    refused: dict[str, str],
) -> dict[str, Any]:
    """One judge's part of the report: the stream's entropies, and each codec's points."""

    def ask(what: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except EstimateError as error:
            refused[f"{judge}: {what}"] = str(error)
            return None

    said = meaning.of(originals)
    labels = _labels(judge, originals, class_names)
    share = np.array([said.count(name) for name in meaning.sets]) / len(said)
    stream = {
        "label_entropy": _flat(ask("entropy of labels", lambda: estimate.entropy(labels))),
        "semantic_entropy": _flat(ask("entropy of meanings", lambda: estimate.entropy(said))),
        "labels": len(set(labels)),
        "sets": dict(zip(meaning.sets, share.tolist(), strict=True)),
        "how": meaning.how,
    }
    if judge == "classifier":
        roots = np.sqrt(dense(originals))
        bits = estimate.spectral_entropy(roots @ roots.T)  # Bhattacharyya's coefficient of each pair, 1 for equal ones
        stream["embedding_entropy"] = {"bits": bits, "ceiling_bits": math.log2(len(originals))}
    codecs: dict[str, list[dict[str, Any]]] = {}
    for (codec, setting), seen in groups.items():
        got = meaning.of(seen)
        kept = ask("information kept", lambda got=got: estimate.mutual_information(said, got))  # type: ignore[misc]
        mismatch = sum(a != b for a, b in zip(said, got, strict=True)) / len(said)
        size = float(np.mean([one.size_bytes for one in seen]))
        point = {
            "setting": setting,
            "bytes": size,
            "bpp": 8 * sum(one.size_bytes for one in seen) / sum(one.pixels for one in seen),
            "kept": _flat(kept),
            "spent_per_kept": 8 * size / kept.bits if kept and kept.bits > 0 else None,
            "mismatch": mismatch,
            "floor_bits": _floor(share, mismatch),
        }
        if judge == "classifier":
            point["embedding"] = _embedding(originals, seen, ask)
        codecs.setdefault(codec, []).append(point)
    result: dict[str, Any] = {"stream": stream, "codecs": {}, "hull": {}, "useful": {}}
    nothing_sent = (0.0, 1 - float(share.max()))
    for codec, points in codecs.items():
        points.sort(key=lambda point: point["bytes"])
        result["codecs"][codec] = points
    for family in dict.fromkeys(map(family_of, codecs)):
        points = [p | {"codec": codec} for codec in codecs if family_of(codec) == family for p in codecs[codec]]
        result["hull"][family] = hull([nothing_sent, *((p["bytes"], p["mismatch"]) for p in points)])
        if link is not None and all(point["kept"] for point in points):
            result["useful"][family] = _useful(link, points, most_fps)
    return result


def hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lower convex hull of (rate, distortion), falling: what switching between settings can reach."""
    front: list[tuple[float, float]] = []
    for rate, distortion in sorted(points):
        if front and distortion >= front[-1][1]:
            continue
        while len(front) > 1 and _above(front[-2], front[-1], (rate, distortion)):
            front.pop()
        front.append((rate, distortion))
    return front


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


def _useful(link: Link, points: Sequence[Mapping[str, Any]], most_fps: float) -> dict[str, Any]:
    sizes = [point["bytes"] for point in points]
    found = useful(link, sizes, [point["kept"]["bits"] for point in points], most_fps)
    at = points[found.best]
    return {
        "adaptive_bps": found.adaptive_bps,
        "fixed_bps": found.fixed_bps,
        "fixed_low_bps": found.frames_per_s * at["kept"]["low_bits"],
        "fixed_high_bps": found.frames_per_s * at["kept"]["high_bits"],
        "codec": at["codec"],
        "setting": at["setting"],
        "bytes": at["bytes"],
        "frames_per_s": found.frames_per_s,
    }


def _floor(share: Array, mismatch: float) -> float:
    """R(D) of the meanings alone: bits a picture for a coder that sends nothing but what the judge would say."""
    used = share[share > 0]
    if used.size < 2:
        return 0.0
    return blahut.rate_distortion(used, 1 - np.eye(used.size), min(mismatch, 1.0), tolerance_bits=1e-6).bits


def _embedding(
    originals: Sequence[Observation], seen: Sequence[Observation], ask: Callable[..., Any]
) -> dict[str, Any]:
    """Information between the classifier's distributions before and after, by two estimators with opposite failings."""
    both = np.sqrt(dense([*originals, *seen]))
    before, after = both[: len(originals)], both[len(originals) :]
    bound = ask("InfoNCE of embeddings", lambda: estimate.infonce(before @ after.T))
    mean = before.mean(axis=0)
    axes = np.linalg.svd(before - mean, full_matrices=False)[2][:_COMPONENTS].T
    # Equal pictures give equal points, which have no density: noise far below what matters gives them one
    noise = np.random.default_rng(0).normal(scale=1e-6, size=(2, len(before), axes.shape[1]))
    near = ask(
        f"nearest neighbours of embeddings ({_COMPONENTS} components)",
        lambda: estimate.ksg((before - mean) @ axes + noise[0], (after - mean) @ axes + noise[1]),
    )
    return {
        "infonce_bits": bound.bits if bound else None,
        "infonce_ceiling_bits": bound.ceiling_bits if bound else None,
        "infonce_saturated": bound.saturated if bound else None,
        "ksg_bits": near,
    }


def _labels(judge: str, observations: Sequence[Observation], names: Sequence[str]) -> list[str]:
    """The finest label that the judge gives."""
    if judge == "detector":
        return [str(one.object) for one in observations]
    return [class_name(int(Counter(one.classes).most_common(1)[0][0]), names) for one in observations]


def _flat(found: estimate.Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)

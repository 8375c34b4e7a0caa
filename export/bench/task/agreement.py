"""Agreement of what a judge sees in decoded and in original pictures: matches, F1, average precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edgesem.quality.judges import Detection, iou

LEAST_IOU = 0.5
THRESHOLD = 0.4  # what counts as seen; at 0.25 to 0.4 FastestDet agrees best with people's boxes (measured on COCO)
CANDIDATE = 0.05  # what average precision ranks


@dataclass(frozen=True)
class PictureContent:
    """What a judge sees in one picture: objects down to a score of CANDIDATE, and numbers of the likeliest classes."""

    objects: tuple[Detection, ...]
    classes: tuple[int, ...] = ()

    @property
    def sure(self) -> list[Detection]:
        """The objects that count as seen."""
        return [found for found in self.objects if found.score >= THRESHOLD]


@dataclass(frozen=True)
class Match:
    """Objects of one picture, counted: both: seen in the original and, at the same place, in the decoded picture."""

    original: int
    decoded: int
    both: int


def match(original: PictureContent, decoded: PictureContent | None) -> Match:
    """Which objects are in both; `decoded` is None for a picture that did not arrive, so that all are missed."""
    wanted, found = original.sure, decoded.sure if decoded else []
    return Match(len(wanted), len(found), sum(hit for _, hit in _hits(wanted, found)))


def f1(matches: Sequence[Match]) -> float:
    """Agreement of detections over all pictures, 0 to 1: harmonic mean of the shares found and true."""
    seen = sum(m.original + m.decoded for m in matches)
    return 2 * sum(m.both for m in matches) / seen if seen else 1.0


def mean_average_precision(pairs: Iterable[tuple[PictureContent, PictureContent | None]]) -> float:
    """mAP at an IoU of 0.5 of what is seen in decoded pictures, with what was seen in the originals as the truth.

    The mean over the classes that the originals hold of the area under precision over recall, precision made to fall.
    """
    hits: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    wanted: dict[str, int] = defaultdict(int)
    for original, decoded in pairs:
        for truth in original.sure:
            wanted[truth.label] += 1
        for found, hit in _hits(original.sure, decoded.objects if decoded else ()):
            hits[found.label].append((found.score, hit))
    return (
        float(np.mean([_average_precision(hits[label], count) for label, count in wanted.items()])) if wanted else 1.0
    )


def _average_precision(hits: list[tuple[float, bool]], wanted: int) -> float:
    if not hits:
        return 0.0
    true = np.array([hit for _, hit in sorted(hits, key=lambda pair: -pair[0])])
    precision = true.cumsum() / np.arange(1, len(true) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[true].sum() / wanted)


def _hits(wanted: Sequence[Detection], found: Sequence[Detection]) -> list[tuple[Detection, bool]]:
    """Each found object, surest first, and whether it is one that was wanted and not found yet."""
    left = list(wanted)
    hits = []
    for candidate in sorted(found, key=lambda detection: -detection.score):
        same = [truth for truth in left if truth.label == candidate.label]
        nearest = max(same, key=lambda truth: iou(truth.box, candidate.box), default=None)
        hit = nearest is not None and iou(nearest.box, candidate.box) >= LEAST_IOU
        if hit and nearest is not None:
            left.remove(nearest)
        hits.append((candidate, hit))
    return hits

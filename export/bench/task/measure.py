"""Measurement of task fidelity: what networks see in pictures that each codec got into a budget of bytes.

    pictures -> the best coding within each budget -> decode -> TaskJudge -> Observation -> JSON-lines file

What is kept already is not measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.files import read_picture
from edgesem.jsonl import JsonLines
from edgesem.quality.judges import Classifier, Detection, Detector, Judge
from edgesem.quality.metrics import Frame
from edgesem.sources import program_digest
from export.bench.rd.baselines import ORIGINAL, CodecUnderTest
from export.bench.rd.points import picture_digest
from export.bench.task.agreement import CANDIDATE, PictureContent
from export.program import FIGURES

VGA_PIXELS = 640 * 480
TOP = 5


@dataclass(frozen=True)
class Observation:
    """One picture, by one codec, within one budget, and what the judge sees in it."""

    picture: str
    picture_digest: str
    codec: str
    budget: int
    """Bytes for a VGA frame; this picture's were in proportion to its pixels."""
    version: str
    size_bytes: int | None
    seen: PictureContent | None
    """None where even the lowest quality was more bytes."""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Picture, codec, budget and version: equal for two observations of the same thing."""
        return (self.picture_digest, self.codec, self.budget, self.version)


class TaskJudge:
    """Detector and, if there is one, classifier as one judge."""

    def __init__(self, detector: Detector, classifier: Classifier | None) -> None:
        self._detector, self._classifier = detector, classifier
        digests = [judge.version[:8] for judge in (detector, classifier) if judge]
        self.version = f"code {program_digest(FIGURES)[:8]}, judges {' '.join(digests)}"

    def predict(self, frame: Frame) -> PictureContent:
        """Objects down to a score of CANDIDATE, and the TOP likeliest classes."""
        objects = [
            Detection(found.label, round(found.score, 4), tuple(round(side, 1) for side in found.box))  # type: ignore[arg-type]
            for found in self._detector.predict(frame, CANDIDATE)
        ]
        if self._classifier is None:
            return PictureContent(tuple(objects))
        order = np.argsort(-self._classifier.predict(frame), kind="stable")
        return PictureContent(tuple(objects), tuple(order[:TOP].tolist()))


def open_observations(path: Path) -> JsonLines[Observation]:
    """The observations kept in a file."""
    return JsonLines(path, key=lambda one: one.key, encode=asdict, decode=_observation)


def observe(
    pictures: Sequence[Path],
    codecs: Sequence[CodecUnderTest],
    budgets: Sequence[int],
    kept: JsonLines[Observation],
    judge: Judge[PictureContent],
    done: Callable[[int], None] = lambda count: None,
) -> list[Observation]:
    """An observation for each picture x codec x budget, and one of each original (`ORIGINAL`, budget 0).

    budgets: bytes for a VGA frame. done: called with the number of observations that were completed.
    """
    observations: list[Observation] = []
    for path in pictures:
        frame = read_picture(path)
        digest = picture_digest(frame)
        share = frame.shape[0] * frame.shape[1] / VGA_PIXELS

        def known(codec: str, budget: int, version: str, digest: str = digest) -> Observation | None:
            return kept.get((digest, codec, budget, f"{version}; {judge.version}"))

        original = known(ORIGINAL, 0, "")
        if original is None:
            original = Observation(path.name, digest, ORIGINAL, 0, f"; {judge.version}", None, judge.predict(frame))
            kept.add(original)
        observations.append(original)
        coded: dict[Any, bytes | None] = {}  # by encoder and budget: several decoders may share one
        for codec in codecs:
            found = {budget: known(codec.name, budget, codec.version) for budget in budgets}
            missing = [budget for budget in budgets if found[budget] is None]
            encoder = codec.pack or codec.encode
            if todo := [budget for budget in missing if (encoder, budget) not in coded]:
                fitted = codec.fit(frame, [int(budget * share) for budget in todo])
                coded.update(((encoder, budget), data) for budget, data in zip(todo, fitted, strict=True))
            made = []
            for budget in missing:
                data = coded[encoder, budget]
                seen = judge.predict(codec.decode(data, (frame.shape[0], frame.shape[1]))) if data else None
                version = f"{codec.version}; {judge.version}"
                size = len(data) if data else None
                made.append(Observation(path.name, digest, codec.name, budget, version, size, seen))
            if made:
                kept.add(*made)
            found |= {one.budget: one for one in made}
            observations += [one for one in found.values() if one]
            done(len(budgets))
    return observations


def _observation(values: dict[str, Any]) -> Observation:
    if seen := values["seen"]:
        objects = tuple(Detection(d["label"], d["score"], tuple(d["box"])) for d in seen["objects"])
        values["seen"] = PictureContent(objects, tuple(seen["classes"]))
    return Observation(**values)

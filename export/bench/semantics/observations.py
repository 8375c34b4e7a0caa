"""Observations: what a judge sees in a picture as each codec leaves it, measured once and kept in a file.

picture -> encode, decode (each codec, each setting) -> SemanticJudge -> Observation -> JSON-lines file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.manifest import digest_of
from edgesem.files import read_picture
from edgesem.jsonl import JsonLines
from edgesem.quality.judges import Classifier, Detector, Judge
from edgesem.quality.metrics import Frame
from edgesem.sources import program_digest
from export.bench.rd.baselines import ORIGINAL, CodecUnderTest
from export.bench.rd.points import picture_digest
from export.program import FIGURES

NO_OBJECT = "nothing"
_LEAST_SHARE = 1e-3  # smaller probabilities are not kept


class Answer(NamedTuple):
    """What a `SemanticJudge` says of one picture."""

    classes: dict[str, float] | None
    """The classifier's distribution, by the class's number; None without a classifier."""
    object: str | None
    """The object that the detector is surest of, or `nothing`; None without a detector."""


@dataclass(frozen=True)
class Observation:
    """One picture, by one codec, at one setting, and what the judge says of it."""

    picture: str
    picture_digest: str
    pixels: int
    codec: str
    setting: float
    version: str
    size_bytes: int
    classes: dict[str, float] | None
    """As `Answer.classes`."""
    object: str | None
    """As `Answer.object`."""

    @property
    def key(self) -> tuple[str, str, float, str]:
        """Picture, codec, setting and version: equal for two observations of the same thing."""
        return (self.picture_digest, self.codec, self.setting, self.version)


class SemanticJudge:
    """Classifier, detector, or both, as one judge."""

    def __init__(self, classifier: Classifier | None, detector: Detector | None) -> None:
        self._classifier, self._detector = classifier, detector
        paths = [judge.path for judge in (classifier, detector) if judge is not None]
        digests = " ".join(digest_of(path)[:16] for path in paths)
        self.version = f"code {program_digest(FIGURES)[:8]} judges {digests}"

    def predict(self, frame: Frame) -> Answer:
        """The classifier's distribution without its long tail, summing to 1, and the label of the surest object."""
        return Answer(self._classes(frame), self._object(frame))

    def _classes(self, frame: Frame) -> dict[str, float] | None:
        if self._classifier is None:
            return None
        p = self._classifier.predict(frame)
        kept = np.flatnonzero(p >= min(_LEAST_SHARE, float(p.max())))
        share = p[kept].astype(np.float64) / float(p[kept].sum())
        return {str(index): round(value, 6) for index, value in zip(kept.tolist(), share.tolist(), strict=True)}

    def _object(self, frame: Frame) -> str | None:
        if self._detector is None:
            return None
        found = self._detector.predict(frame)
        return found[0].label if found else NO_OBJECT


def open_observations(path: Path) -> JsonLines[Observation]:
    """The observations kept in a file."""
    return JsonLines(path, key=lambda one: one.key, encode=asdict, decode=lambda values: Observation(**values))


def observe(
    pictures: Sequence[Path],
    codecs: Sequence[CodecUnderTest],
    settings: int,
    judge: Judge[Answer],
    kept: JsonLines[Observation],
    done: Callable[[], None] = lambda: None,
) -> list[Observation]:
    """Observations of all pictures, as they are (`original`, 0 bytes) and by each codec at up to `settings` settings.

    done: called after each observation.
    """
    found = []
    for path in pictures:
        frame = read_picture(path)
        digest = picture_digest(frame)
        for name, setting, codec in _ways(codecs, settings):
            version = f"{judge.version} {codec.version if codec else ''}"
            observation = kept.get((digest, name, setting, version))
            if observation is None:
                data, seen = _coded(frame, codec, setting)
                observation = Observation(
                    picture=path.name,
                    picture_digest=digest,
                    pixels=frame.shape[0] * frame.shape[1],
                    codec=name,
                    setting=setting,
                    version=version,
                    size_bytes=len(data),
                    **judge.predict(seen)._asdict(),
                )
                kept.add(observation)
            found.append(observation)
            done()
    return found


def spread(settings: Sequence[float], most: int) -> list[float]:
    """At most so many of the settings, from the first to the last, evenly."""
    places = np.linspace(0, len(settings) - 1, min(most, len(settings))).round().astype(int)
    return [settings[place] for place in places]


def dense(observations: Sequence[Observation]) -> NDArray[np.float64]:
    """The distributions over classes as a matrix [observations, classes], as far as any class is named."""
    width = 1 + max(int(index) for one in observations for index in one.classes or {"0": 0})
    out = np.zeros((len(observations), width))
    for row, one in zip(out, observations, strict=True):
        for index, share in (one.classes or {}).items():
            row[int(index)] = share
    return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)


def _ways(codecs: Sequence[CodecUnderTest], settings: int) -> list[tuple[str, float, CodecUnderTest | None]]:
    ways: list[tuple[str, float, CodecUnderTest | None]] = [(ORIGINAL, 0.0, None)]
    return ways + [(codec.name, float(value), codec) for codec in codecs for value in spread(codec.settings, settings)]


def _coded(frame: Frame, codec: CodecUnderTest | None, setting: float) -> tuple[bytes, Frame]:
    if codec is None:
        return b"", frame
    data = codec.encode(frame, setting)
    return data, codec.decode(data, (frame.shape[0], frame.shape[1]))

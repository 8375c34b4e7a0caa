"""What judges see in a picture as each codec leaves it, measured once and kept in a file.

picture -> encode, decode (each codec, each setting) -> classifier, detector -> Sight -> Sights
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.files import read_picture
from edgesem.quality.judges import Classifier, Detector
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import Subject

ORIGINAL = "original"
NO_SIDE_INFO = "nothing"
_MEASURES = 1  # raise it when judging changes: what was measured before is then measured again
_LEAST_SHARE = 1e-3  # smaller probabilities are not kept


@dataclass(frozen=True)
class Sight:
    """One picture, by one codec, at one setting, as the judges see it."""

    picture: str
    picture_digest: str
    pixels: int
    codec: str
    setting: float
    version: str
    size_bytes: int
    classes: dict[str, float] | None
    """The classifier's distribution, by the class's number; None without a classifier."""
    object: str | None
    """The object that the detector is surest of, or `nothing`; None without a detector."""

    @property
    def key(self) -> tuple[str, str, float, str]:
        """What two sights have in common that are the same measurement."""
        return (self.picture_digest, self.codec, self.setting, self.version)


class Eye:
    """A classifier, a detector, or both."""

    def __init__(self, classifier: Classifier | None, detector: Detector | None) -> None:
        self._classifier, self._detector = classifier, detector
        paths = [judge.path for judge in (classifier, detector) if judge is not None]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
        self.version = f"{_MEASURES} {digest[:16]}"

    def classes(self, frame: Frame) -> dict[str, float] | None:
        """The classifier's distribution without its long tail, summing to 1."""
        if self._classifier is None:
            return None
        p = self._classifier.probabilities(frame)
        kept = np.flatnonzero(p >= min(_LEAST_SHARE, float(p.max())))
        share = p[kept].astype(np.float64) / float(p[kept].sum())
        return {str(index): round(value, 6) for index, value in zip(kept.tolist(), share.tolist(), strict=True)}

    def object(self, frame: Frame) -> str | None:
        """The label of the surest object, or `nothing`."""
        if self._detector is None:
            return None
        found = self._detector.detect(frame)
        return found[0].label if found else NO_SIDE_INFO


class Sights:
    """Sights in a JSONL file, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[str, str, float, str], Sight] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                sight = Sight(**json.loads(line))
            except (ValueError, TypeError):
                continue  # half a line, or one of another edgesem: it will be measured again
            self._known[sight.key] = sight

    def get(self, key: tuple[str, str, float, str]) -> Sight | None:
        """What was measured, or None."""
        return self._known.get(key)

    def add(self, sight: Sight) -> None:
        """Keep one, on disk at once."""
        self._known[sight.key] = sight
        with self._path.open("a", encoding="utf-8") as file:  # a line that a killed run left half is closed first
            file.write(f"\n{json.dumps(asdict(sight))}")


def look(
    pictures: Sequence[Path],
    subjects: Sequence[Subject],
    settings: int,
    eye: Eye,
    kept: Sights,
    done: Callable[[], None] = lambda: None,
) -> list[Sight]:
    """The sights of all pictures, whole (`original`, 0 bytes) and by each codec at up to `settings` of its settings."""
    found = []
    for path in pictures:
        frame = read_picture(path)
        digest = hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).hexdigest()[:16]
        for codec, setting, code in _ways(subjects, settings):
            version = f"{eye.version} {code.version if code else ''}"
            sight = kept.get((digest, codec, setting, version))
            if sight is None:
                data, seen = _coded(frame, code, setting)
                sight = Sight(
                    picture=path.name,
                    picture_digest=digest,
                    pixels=frame.shape[0] * frame.shape[1],
                    codec=codec,
                    setting=setting,
                    version=version,
                    size_bytes=len(data),
                    classes=eye.classes(seen),
                    object=eye.object(seen),
                )
                kept.add(sight)
            found.append(sight)
            done()
    return found


def spread(settings: Sequence[float], most: int) -> list[float]:
    """At most so many of the settings, from the first to the last, evenly."""
    places = np.linspace(0, len(settings) - 1, min(most, len(settings))).round().astype(int)
    return [settings[place] for place in places]


def dense(sights: Sequence[Sight]) -> NDArray[np.float64]:
    """The distributions over classes as a matrix [sights, classes], as far as any class is named."""
    width = 1 + max(int(index) for sight in sights for index in sight.classes or {"0": 0})
    out = np.zeros((len(sights), width))
    for row, sight in zip(out, sights, strict=True):
        for index, share in (sight.classes or {}).items():
            row[int(index)] = share
    return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)


def _ways(subjects: Sequence[Subject], settings: int) -> list[tuple[str, float, Subject | None]]:
    ways: list[tuple[str, float, Subject | None]] = [(ORIGINAL, 0.0, None)]
    return ways + [(s.name, float(value), s) for s in subjects for value in spread(s.settings, settings)]


def _coded(frame: Frame, code: Subject | None, setting: float) -> tuple[bytes, Frame]:
    if code is None:
        return b"", frame
    data = code.encode(frame, setting)
    return data, code.decode(data, (frame.shape[0], frame.shape[1]))

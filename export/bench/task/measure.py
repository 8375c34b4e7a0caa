"""Task fidelity, measured: what networks see in pictures that each codec got into a budget of bytes.

    pictures -> the best coding within each budget -> decode -> judge (edgesem.quality.judges) -> Sighting -> Sightings

What is kept already is not measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.files import read_picture
from edgesem.quality.judges import Classifier, Detection, Detector
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import Subject
from export.bench.task.agreement import CANDIDATE, Seen

ORIGINAL = "original"
VGA_PIXELS = 640 * 480
TOP = 5
_MEASURES = 1  # raise it when judging or searching changes: what was measured before is then measured again


@dataclass(frozen=True)
class Sighting:
    """One picture, by one codec, within one budget. seen: None where even the lowest quality was more bytes."""

    picture: str
    picture_digest: str
    codec: str
    budget: int
    """Bytes for a VGA frame; this picture's were in proportion to its pixels."""
    version: str
    size_bytes: int | None
    seen: Seen | None

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What two sightings have in common that are the same measurement."""
        return (self.picture_digest, self.codec, self.budget, self.version)


class Sightings:
    """Sightings in a JSONL file, one a line."""

    def __init__(self, path: Path) -> None:
        self._path, self._known = path, {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                values = json.loads(line)
                if seen := values["seen"]:
                    objects = tuple(Detection(d["label"], d["score"], tuple(d["box"])) for d in seen["objects"])
                    values["seen"] = Seen(objects, tuple(seen["classes"]))
                sighting = Sighting(**values)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # half a line, or one of another edgesem: it will be measured again
            self._known[sighting.key] = sighting

    def get(self, key: tuple[str, str, int, str]) -> Sighting | None:
        """What was measured, or None."""
        return self._known.get(key)

    def add(self, sightings: Sequence[Sighting]) -> None:
        """Keep some, on disk at once."""
        self._known.update({sighting.key: sighting for sighting in sightings})
        with self._path.open("a", encoding="utf-8") as file:  # a line that a killed run left half is closed first
            file.write("".join(f"\n{json.dumps(asdict(sighting))}" for sighting in sightings) + "\n")


class Judge:
    """The detector, and the classifier if there is one."""

    def __init__(self, detector: Detector, classifier: Classifier | None) -> None:
        self._detector, self._classifier = detector, classifier
        self.has_classes = classifier is not None
        digests = [_file_digest(judge.path) for judge in (detector, classifier) if judge]
        self.version = f"task {_MEASURES}, judges {' '.join(digests)}"

    def __call__(self, frame: Frame) -> Seen:
        """What is seen in a picture."""
        objects = [
            Detection(found.label, round(found.score, 4), tuple(round(side, 1) for side in found.box))  # type: ignore[arg-type]
            for found in self._detector.detect(frame, CANDIDATE)
        ]
        if self._classifier is None:
            return Seen(tuple(objects))
        order = np.argsort(-self._classifier.probabilities(frame), kind="stable")
        return Seen(tuple(objects), tuple(order[:TOP].tolist()))


def look(
    pictures: Sequence[Path],
    subjects: Sequence[Subject],
    budgets: Sequence[int],
    store: Sightings,
    judge: Judge,
    done: Callable[[int], None] = lambda count: None,
) -> list[Sighting]:
    """A sighting for each picture x codec x budget, and one of each original (`ORIGINAL`, budget 0).

    budgets: bytes for a VGA frame. done: is told how many sightings were completed.
    """
    sightings: list[Sighting] = []
    for path in pictures:
        frame = read_picture(path)
        digest = hashlib.sha256(repr(frame.shape).encode() + frame.tobytes()).hexdigest()[:24]
        share = frame.shape[0] * frame.shape[1] / VGA_PIXELS

        def kept(codec: str, budget: int, version: str, digest: str = digest) -> Sighting | None:
            return store.get((digest, codec, budget, f"{version}; {judge.version}"))

        original = kept(ORIGINAL, 0, "") or _original(path, digest, frame, store, judge)
        sightings.append(original)
        coded: dict[Any, bytes | None] = {}  # by encoder and budget: several decoders may share one
        for subject in subjects:
            known = {budget: kept(subject.name, budget, subject.version) for budget in budgets}
            missing = [budget for budget in budgets if known[budget] is None]
            way = subject.pack or subject.encode
            if todo := [budget for budget in missing if (way, budget) not in coded]:
                fitted = subject.fit(frame, [int(budget * share) for budget in todo])
                coded.update(((way, budget), data) for budget, data in zip(todo, fitted, strict=True))
            made = []
            for budget in missing:
                data = coded[way, budget]
                seen = judge(subject.decode(data, (frame.shape[0], frame.shape[1]))) if data else None
                version = f"{subject.version}; {judge.version}"
                size = len(data) if data else None
                made.append(Sighting(path.name, digest, subject.name, budget, version, size, seen))
            if made:
                store.add(made)
            found = known | {sighting.budget: sighting for sighting in made}
            sightings += [sighting for sighting in found.values() if sighting]
            done(len(budgets))
    return sightings


def _original(path: Path, digest: str, frame: Frame, store: Sightings, judge: Judge) -> Sighting:
    made = Sighting(path.name, digest, ORIGINAL, 0, f"; {judge.version}", None, judge(frame))
    store.add([made])
    return made


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]

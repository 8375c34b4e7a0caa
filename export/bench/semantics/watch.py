"""Bench of text queries: average precision of the semantic head, beside that of a full-size classifier.

pictures with labelled boxes -> embeddings as packets carry them -> rank by query -> average precision
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture
from edgesem.semantics.embedding import Labels, SemanticHead, from_bytes, to_bytes
from export.semantics.teacher import Teacher

Truth = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]
_MOST_LINES = 10_000


@dataclass(frozen=True)
class Labelled:
    """Pictures with ground truth. truth: bool [pictures, names], whether a picture shows what a name stands for."""

    paths: Sequence[Path]
    names: Sequence[str]
    truth: Truth


def read_labelled(data: Path, labels: Path, names: Sequence[str]) -> Labelled:
    """The pictures in `data` with their YOLO label files (class x y w h a line) of the same stem in `labels`.

    A picture without a file has nothing in it. Raises InputError for a file that is none, or if there are no files.
    """
    paths = find_pictures(data)
    truth = np.zeros((len(paths), len(names)), bool)
    read = 0
    for row, path in enumerate(paths):
        file = labels / f"{path.stem}.txt"
        if not file.is_file():
            continue
        read += 1
        for line in file.read_text(errors="replace").splitlines()[:_MOST_LINES]:
            number = line.split()[0] if line.split() else ""
            if number and (not number.isdecimal() or len(number) > 6 or int(number) >= len(names)):
                raise InputError(f"{file}: {line[:40]!r} does not start with a class from 0 to {len(names) - 1}")
            if number:
                truth[row, int(number)] = True
    if not read:
        raise InputError(f"{labels} holds no label file for the pictures in {data}: name the folder of FILE.txt")
    return Labelled(paths, names, truth)


def watch_bench(
    found: Labelled, codec: Codec, teacher: Teacher | None, least: int, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Average precision of each name that at least `least` pictures show, and the means: head, classifier, chance.

    Both answer in the same space, with the same vectors of the queries; the head's embedding has gone through the 64
    bytes of a packet's side information.
    """
    head, labels = SemanticHead(codec.bundle), Labels.of(codec.bundle)
    seen: list[Vectors] = []
    said: list[Vectors] = []
    for index, path in enumerate(found.paths):
        frame = read_picture(path)
        seen.append(from_bytes(to_bytes(head.embed(codec.analyze(frame)))))
        if teacher is not None:
            said.append(teacher.predict(frame))
        progress((index + 1) / len(found.paths))
    used = [k for k in range(len(found.names)) if found.truth[:, k].sum() >= least]
    if not used:
        raise InputError(f"no name is on {least} pictures: lower --least or name more pictures")
    vectors = np.stack([labels.query(found.names[k]).vector for k in used])
    ranks = {"head": np.stack(seen) @ vectors.T}
    if teacher is not None:
        meant = teacher.text_vectors(np.stack(said))
        ranks["classifier"] = labels.project(meant - meant.mean(0) + labels.mean) @ vectors.T
    rows = [
        {"query": found.names[k], "pictures": int(found.truth[:, k].sum())}
        | {name: round(average_precision(rank[:, i], found.truth[:, k]), 4) for name, rank in ranks.items()}
        for i, k in enumerate(used)
    ]
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in ranks}
    chance = round(float(np.mean([row["pictures"] for row in rows])) / len(found.paths), 4)
    share = round(means["head"] / means["classifier"], 4) if "classifier" in means else None
    return {"pictures": len(found.paths), "mean": means, "chance": chance, "share": share, "queries": rows}


def average_precision(score: npt.NDArray[np.floating], truth: Truth) -> float:
    """Mean of the precision at each true picture, best first; equal scores in the order given."""
    hits = truth[np.argsort(-score, kind="stable")]
    if not hits.any():
        return 0.0
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())

"""Teachers of the semantic head: a classifier with a text encoder, or both halves of a CLIP model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from edgesem.errors import InputError, require
from edgesem.quality.judges import Classifier, Judge, read_names
from edgesem.quality.metrics import Frame
from edgesem.semantics.embedding import prompt
from edgesem.semantics.text_encoder import MOST_LETTERS, Vectors
from export.semantics.words import WORDS

_BATCH = 64
_FLATTER = 0.25  # power of probabilities: what is unlikely but similar tells much


class TextSide(Protocol):
    """Text encoder. Vectors of two encoders can be compared only if they have the same `name`."""

    name: str

    def __call__(self, texts: Sequence[str]) -> Vectors: ...


class Teacher(Judge[Vectors], Protocol):
    """Judge whose answers can be turned into vectors of a text encoder."""

    text: TextSide
    names: tuple[str, ...]
    about: dict[str, Any]

    def text_vectors(self, said: Vectors) -> Vectors:
        """Answers float32 [N, outputs] as vectors of the text encoder, [N, D]."""
        ...

    def projection_to(self, dimensions: int) -> tuple[Vectors, Vectors]:
        """Mean [D] and projection [D, dimensions] of the names' vectors."""
        ...


class ClassifierTeacher:
    """Classifier and text encoder: the mean of the class names' vectors, weighted by the distribution over classes."""

    def __init__(self, classifier: Path, names: Path, text: TextSide) -> None:
        self._classifier, self.names, self.text = Classifier(classifier), read_names(names), text
        if len(self.names) != self._classifier.classes:
            raise InputError(
                f"{names} holds {len(self.names)} names, {classifier} has {self._classifier.classes} classes"
            )
        self.version = hashlib.sha256(classifier.read_bytes()).hexdigest()
        self.about = {"classifier": classifier.name, "text": text.name}
        self._vectors = text([prompt(name) for name in self.names])

    def predict(self, frame: Frame) -> Vectors:
        return self._classifier.predict(frame)

    def text_vectors(self, said: Vectors) -> Vectors:
        weight = np.maximum(said, 0) ** _FLATTER
        weight[:, [name in ("background", "???") for name in self.names]] = 0
        found: Vectors = weight / np.maximum(weight.sum(1, keepdims=True), 1e-9) @ self._vectors
        return found

    def projection_to(self, dimensions: int) -> tuple[Vectors, Vectors]:
        return _space(self._vectors, dimensions)


class ClipTeacher:
    """CLIP model in a Hugging Face folder: both its halves give vectors of one space already."""

    def __init__(self, folder: Path, names: Path | None) -> None:
        transformers = require("transformers", "optimum")
        self.names = read_names(names) if names else WORDS
        try:
            self._prepare = transformers.CLIPImageProcessor.from_pretrained(str(folder), local_files_only=True)
            self._model: Any = transformers.CLIPModel.from_pretrained(str(folder), local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} holds no CLIP model that transformers can open: {error}") from error
        self.text: TextSide = _ClipText(self._model, transformers.AutoTokenizer.from_pretrained(str(folder)), folder)
        weights = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
        self.version = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
        self.about = {"clip": folder.resolve().name, "text": self.text.name}

    def predict(self, frame: Frame) -> Vectors:
        pixels = self._prepare(images=frame, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            found = self._model.get_image_features(pixel_values=pixels)[0].numpy()
        return np.asarray(found / np.linalg.norm(found), np.float32)

    def text_vectors(self, said: Vectors) -> Vectors:
        return said

    def projection_to(self, dimensions: int) -> tuple[Vectors, Vectors]:
        return _space(self.text([prompt(name) for name in (*self.names, *WORDS)]), dimensions)


class _ClipText:
    def __init__(self, model: Any, tokenizer: Any, folder: Path) -> None:
        self.name = f"clip {folder.resolve().name}"
        self._model, self._tokenizer = model, tokenizer

    def __call__(self, texts: Sequence[str]) -> Vectors:
        rows = []
        for start in range(0, len(texts), _BATCH):
            batch = [text[:MOST_LETTERS] for text in texts[start : start + _BATCH]]
            with torch.no_grad():
                tokens = self._tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
                rows.append(self._model.get_text_features(**tokens).numpy())
        vectors = np.concatenate(rows)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _space(vectors: Vectors, dimensions: int) -> tuple[Vectors, Vectors]:
    mean = vectors.mean(0)
    axes: npt.NDArray[np.float32] = np.linalg.svd(vectors - mean, full_matrices=False)[2][:dimensions].T
    if axes.shape[1] < dimensions:
        axes = np.pad(axes, ((0, 0), (0, dimensions - axes.shape[1])))
    return mean, np.ascontiguousarray(axes)

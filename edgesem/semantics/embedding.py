"""Embeddings: the content of a picture as 128 numbers that text can be compared with.

Latent -> SemanticHead -> embedding -> 64 bytes of side information -> embedding -> similarity, Query
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.arrays import read_arrays
from edgesem.bundle.graph_runner import output_of
from edgesem.bundle.runner import open_runner
from edgesem.errors import BundleError, MissingDependency, PacketError, UsageError, install_hint

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle
    from edgesem.codec.latent import Latent

HEAD = "head.onnx"  # a bundle may lack these two
LABELS = "labels.npz"
DIMENSIONS = 128
EMBEDDING_BYTES = DIMENSIONS // 2
MAX_QUERY_LETTERS = 200
_LARGEST = 7  # of four bits with a sign
_CLIPS = (1.6, 2.0, 2.4, 2.8, 3.4)  # in root mean squares, where the largest step may lie
_MAX_LABELS, _MAX_TEXT_DIMENSIONS, _MAX_PICTURES = 20_000, 4096, 4096
_ARRAYS = ("vectors", "mean", "projection", "pictures")
_LEAST_LIKENESS = 0.6  # of two spellings
_TAIL = 0.1  # of similarity, in which the score of what fits better than all pictures comes nearer to 1

Vector = npt.NDArray[np.float32]


class SemanticHead:
    """Semantic head of a bundle: the network from its encoder's latents to embeddings. BundleError if it has none.

    Thread-safe.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        if HEAD not in bundle.files:
            raise BundleError(
                f"{bundle.folder} has no {HEAD}, so pictures have no embeddings: make one with edgesem align"
            )
        self._runner = open_runner(bundle, "head", threads)

    def embed(self, latent: Latent) -> Vector:
        """The embedding of a latent, straight from the encoder or decoded from a packet: float32 [128], length 1."""
        found = self._runner.run({"latent": np.ascontiguousarray(latent.values[None], np.float32)})
        embedding: Vector = output_of(found, "embedding", (1, DIMENSIONS))[0]
        if not np.isfinite(embedding).all():
            raise BundleError("the semantic head of the bundle gives no numbers: make it again with edgesem align")
        return embedding


def to_bytes(embedding: Vector) -> bytes:
    """An embedding in 64 bytes, four bits a number with sign; its length, always 1, is not kept."""
    if embedding.shape != (DIMENSIONS,) or not np.isfinite(embedding).all():
        raise UsageError(f"an embedding is {DIMENSIONS} finite numbers, got {list(embedding.shape)}")
    unit = _unit(embedding)
    spread = float(np.sqrt(np.mean(unit**2))) or 1.0
    steps = [np.rint(unit * (_LARGEST / (clip * spread))).clip(-_LARGEST, _LARGEST) for clip in _CLIPS]
    best = max(steps, key=lambda step: float(_unit(step) @ unit))
    nibbles = (best.astype(np.int8) & 15).astype(np.uint8)
    return bytes(nibbles[::2] | nibbles[1::2] << 4)


def from_bytes(data: bytes) -> Vector:
    """The embedding that `to_bytes` wrote: float32 [128], length 1. PacketError for bytes that are none."""
    if len(data) != EMBEDDING_BYTES:
        raise PacketError(f"an embedding has {EMBEDDING_BYTES} bytes, got {len(data)}")
    packed = np.frombuffer(data, np.uint8)
    nibbles = np.stack([packed & 15, packed >> 4], axis=1).ravel().astype(np.int16)
    values = np.where(nibbles > _LARGEST, nibbles - 16, nibbles)
    if not values.any() or (values < -_LARGEST).any():
        raise PacketError("an embedding in a packet holds no numbers: the packet was not made by edgesem")
    return _unit(values.astype(np.float32))


def similarity(a: Vector, b: Vector) -> float:
    """The cosine of two embeddings, -1 to 1."""
    return float(_unit(a) @ _unit(b))


@dataclass(frozen=True)
class Query:
    """Text that pictures are compared with.

    vector: float32 [128], length 1. fits: float32 [M], ascending: its similarity with each of the bundle's own pictures
    (`Labels.pictures`), by which the score of this very query is calibrated.
    """

    text: str
    vector: Vector = field(repr=False)
    fits: Vector = field(repr=False)

    def score(self, embedding: Vector) -> float:
        """How well a picture fits, 0 to 1: the share of the bundle's own pictures that fit this query less.

        It rises with the similarity everywhere: between two of those pictures, and outside of them too.
        """
        fit, count = similarity(self.vector, embedding), len(self.fits)
        place = int(np.searchsorted(self.fits, fit, side="right"))
        if 0 < place < count:
            low, high = float(self.fits[place - 1]), float(self.fits[place])
            return (place - 0.5 + (fit - low) / max(high - low, 1e-9)) / count
        end = float(self.fits[-1 if place else 0])
        tail = 0.5 / count * math.exp(-abs(fit - end) / _TAIL)
        return 1 - tail if place else tail


@dataclass(frozen=True)
class Labels:
    """Names with their vectors, and the way from a text encoder's vectors into the same space.

    vectors: float32 [N, 128]; mean [D] and projection [D, 128] of the text encoder called `encoder`; pictures:
    float32 [M, 128], embeddings of some photographs, against which a similarity is judged.
    """

    names: tuple[str, ...]
    vectors: Vector
    mean: Vector
    projection: Vector
    encoder: str
    pictures: Vector

    @classmethod
    def of(cls, bundle: Bundle) -> Labels:
        """The labels of a bundle. BundleError if it has none, or they do not hold together."""
        path = bundle.folder / LABELS
        if LABELS not in bundle.files:
            raise BundleError(f"{bundle.folder} has no {LABELS}: make it with edgesem align")
        stored = read_arrays(path, ("names", "encoder", *_ARRAYS))
        try:
            names = _text(stored["names"]).split("\n")
            encoder = _text(stored["encoder"])
        except ValueError as error:
            raise BundleError(f"{path} does not hold labels: {error}") from error
        with np.errstate(over="ignore"):  # infinite ones are refused below
            arrays = {name: stored[name].astype(np.float32) for name in _ARRAYS}
        count, width, pictures = len(names), arrays["mean"].size, arrays["pictures"].size // DIMENSIONS
        wanted = {"vectors": (count, DIMENSIONS), "mean": (width,), "projection": (width, DIMENSIONS)}
        wanted["pictures"] = (pictures, DIMENSIONS)
        sizes = count <= _MAX_LABELS and 2 <= pictures <= _MAX_PICTURES and width <= _MAX_TEXT_DIMENSIONS
        if not sizes or any(arrays[n].shape != form or not np.isfinite(arrays[n]).all() for n, form in wanted.items()):
            raise BundleError(f"{path}: names, vectors and projection do not fit together")
        for name in ("vectors", "pictures"):
            arrays[name] = _unit(arrays[name])
        return cls(tuple(names), encoder=encoder, **arrays)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays of labels.npz."""
        return {
            "names": np.frombuffer("\n".join(self.names).encode(), np.uint8),
            "encoder": np.frombuffer(self.encoder.encode(), np.uint8),
            "vectors": _bytes(self.vectors),
            "pictures": _bytes(self.pictures),
            "mean": self.mean.astype(np.float16),
            "projection": self.projection.astype(np.float16),
        }

    def query(self, text: str) -> Query:
        """The query of a text: by the text encoder where this machine has it, else by the label that it names.

        UsageError if neither can tell; it lists the labels that come near.
        """
        text = plain(text)
        vector = self._encoded(text)
        if vector is None:
            vector = self.vectors[self._index(text)]
        return self.query_of(text, vector)

    def label_query(self, text: str) -> Query:
        """The query of a text by labels alone, as on a board."""
        text = plain(text)
        return self.query_of(text, self.vectors[self._index(text)])

    def query_of(self, text: str, vector: Vector) -> Query:
        """A query whose vector is known, as when it was made on another machine."""
        fits = self.pictures @ _unit(vector)
        return Query(text, _unit(vector), np.sort(fits))

    def project(self, vectors: Vector) -> Vector:
        """Vectors of the text encoder, float32 [N, D], in the space of pictures: [N, 128], each of length 1."""
        return _unit((vectors - self.mean) @ self.projection)

    def _encoded(self, text: str) -> Vector | None:
        from edgesem.semantics.text_encoder import find_text_encoder

        try:
            encoder = find_text_encoder(self.encoder)
        except (MissingDependency, OSError):
            return None
        return None if encoder is None else self.project(encoder([prompt(text)]))[0]

    def _index(self, text: str) -> int:
        """The label that `text` names: itself, one of its synonyms, or the nearest spelling."""
        spoken = {word: i for i, name in reversed(list(enumerate(self.names))) for word in _spellings(name)}
        wanted = bare(text)
        for candidate in (wanted, wanted.removesuffix("s"), wanted.removesuffix("es")):
            if candidate in spoken:
                return spoken[candidate]
        words = set(wanted.split())
        inside = [word for word in spoken if words & set(word.split()) and set(word.split()) <= words]
        if inside:  # "red car": a car is better than nothing
            return spoken[max(inside, key=len)]
        near = difflib.get_close_matches(wanted, list(spoken), 4, _LEAST_LIKENESS)
        hint = f"near are {', '.join(near)}" if near else "name a thing, in one or two English words"
        raise UsageError(
            f"no label is called {text!r} and no text encoder is installed here: {hint}; "
            f"with {install_hint('text')} any text can be looked for"
        )


def _text(letters: npt.NDArray[Any]) -> str:
    """Text that stands in a bundle as an array of its bytes. ValueError for anything else."""
    if letters.dtype != np.uint8 or letters.ndim != 1:
        raise ValueError("a text must be an array of bytes")
    return letters.tobytes().decode()


def prompt(text: str) -> str:
    """The sentence that is compared with pictures."""
    return f"a photo of {text}" if text.split(" ")[0].lower() in ("a", "an", "the", "some") else f"a photo of a {text}"


def plain(text: str) -> str:
    """A query with single spaces. UsageError if it is empty or too long."""
    text = " ".join(text.split())
    if not text or len(text) > MAX_QUERY_LETTERS:
        raise UsageError(f"a query has 1 to {MAX_QUERY_LETTERS} letters, got {len(text)}")
    return text


def bare(text: str) -> str:
    """A text without article and capitals, as labels are looked up."""
    words = text.lower().replace("_", " ").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the", "some") else words)


def best(queries: Sequence[Query], embedding: Vector) -> tuple[Query | None, float]:
    """The query that a picture fits best, and how well; None and 0 if there are no queries."""
    scores = [query.score(embedding) for query in queries]
    if not scores:
        return None, 0.0
    place = int(np.argmax(scores))
    return queries[place], scores[place]


def _spellings(name: str) -> list[str]:
    return [bare(part) for part in name.split(",") if part.strip()]


def _unit(vectors: npt.NDArray[np.floating]) -> Vector:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), np.float32)


def _bytes(vectors: Vector) -> npt.NDArray[np.int8]:
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.asarray(np.rint(vectors / np.maximum(largest, 1e-9) * 127).clip(-127, 127), np.int8)

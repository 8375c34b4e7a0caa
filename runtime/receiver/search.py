"""Search in an archive: frames by what they show and by time, best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.errors import EdgesemError
from edgesem.semantics.embedding import Query, SemanticHead, to_bytes
from runtime.receiver.archive import Archive
from runtime.receiver.archive_drawer import ArchiveDrawer
from runtime.receiver.archive_entry import Entry, FrameStore


@dataclass(frozen=True)
class Hit:
    """One result of a search."""

    entry: Entry
    score: float
    """Share of pictures at large that would fit less well, 0 to 1."""
    similarity: float
    """Cosine similarity of embedding and query, -1 to 1."""


def search(
    archive: Archive,
    query: Query,
    *,
    stream: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
    most: int = 10,
    apart_s: float = 0.0,
) -> tuple[list[Hit], int]:
    """The `most` frames that fit the query best, best first, and the number of frames that were compared.

    Of frames of one stream that are nearer in time than `apart_s` seconds, only the best is returned.
    """
    entries, vectors = archive.find(stream=stream, since_s=since_s, until_s=until_s)
    known = np.flatnonzero(vectors.any(axis=1))
    fits: npt.NDArray[np.float32] = vectors[known] @ query.vector
    hits: list[Hit] = []
    for place in np.argsort(-fits, kind="stable"):
        entry = entries[known[place]]
        near = (one.entry for one in hits if one.entry.stream == entry.stream)
        if any(abs(one.captured_s - entry.captured_s) < apart_s for one in near):
            continue
        hits.append(Hit(entry, query.score(vectors[known[place]]), float(fits[place])))
        if len(hits) >= most:
            break
    return hits, len(known)


def complete(
    archive: FrameStore,
    codecs: Mapping[int, Codec],
    progress: Callable[[float], None],
    *,
    stream: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
) -> int:
    """Compute the embeddings of frames whose sender sent none, and store them; returns how many.

    `codecs` by the ids of their bundles. Frames that cannot be decoded are left without one. `progress` is called with
    the share done, 0 to 1.
    """
    missing = archive.missing(stream=stream, since_s=since_s, until_s=until_s)
    drawer = ArchiveDrawer(archive, codecs)
    heads: dict[int, SemanticHead] = {}
    count = 0
    for index, entry in enumerate(missing):
        try:
            latent, codec, _ = drawer.latent(entry)
            head = heads.get(codec.bundle.id) or heads.setdefault(codec.bundle.id, SemanticHead(codec.bundle))
            archive.set_embedding(entry, to_bytes(head.embed(latent)))
            count += 1
        except EdgesemError:  # of another bundle, or damaged: it is found by its time alone
            continue
        finally:
            progress((index + 1) / len(missing))
    return count


def named(hits: Sequence[Hit]) -> list[dict[str, object]]:
    """The results as JSON objects."""
    return [
        {
            "stream": hit.entry.stream,
            "time": datetime.fromtimestamp(hit.entry.captured_s).astimezone().isoformat(timespec="milliseconds"),
            "epoch": hit.entry.epoch,
            "frame": hit.entry.frame,
            "score": round(hit.score, 4),
            "similarity": round(hit.similarity, 4),
            "layers": hit.entry.layers,
            "size_bytes": hit.entry.size_bytes,
        }
        for hit in hits
    ]

"""Search in an archive: frames by what they show and by time, best first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.errors import EdgesemError, PacketError, UsageError
from edgesem.semantics.embedding import Query, SemanticHead, to_bytes
from runtime.receiver.archive import Archive, Entry

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Hit:
    """One result of a search."""

    entry: Entry
    score: float
    """Share of pictures at large that would fit less well, 0 to 1."""
    similarity: float
    """Cosine similarity of embedding and query, -1 to 1."""


def parse_time(text: str, now_s: float | None = None) -> float:
    """Unix seconds of `2h` (ago; s, min, h, d, w) or of a local date and time such as 2026-11-22 14:30.

    Raises UsageError for anything else.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        return (time.time() if now_s is None else now_s) - float(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time: write 90s, 30min, 2h, 3d, or 2026-11-22 14:30") from None


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


def complete(archive: Archive, codec: Codec, progress: Callable[[float], None]) -> int:
    """Compute the embeddings of frames whose sender sent none, and store them; returns how many.

    Frames that cannot be decoded are left without one. `progress` is called with the share done, 0 to 1.
    """
    entries, vectors = archive.find()
    missing = [entry for entry, vector in zip(entries, vectors, strict=True) if not vector.any()]
    head, count = (SemanticHead(codec.bundle) if missing else None), 0
    for index, entry in enumerate(missing):
        try:
            assert head is not None
            archive.set_embedding(entry, to_bytes(head.embed(latent_of(archive, entry, codec))))
            count += 1
        except EdgesemError:  # of another bundle, or damaged: it is found by its time alone
            continue
        finally:
            progress((index + 1) / len(missing))
    return count


def latent_of(archive: Archive, entry: Entry, codec: Codec) -> Latent:
    """Decode the latent of an archived frame, and before it those that it refers to.

    Raises InputError if one of them is not archived, PacketError if a packet refers to a later frame.
    """
    chain = [archive.packet(entry)]
    while (reference := chain[-1].side_info.reference) is not None:
        if reference.frame >= chain[-1].frame:
            raise PacketError(f"frame {chain[-1].frame} of {entry.stream} refers to one that is not before it")
        chain.append(archive.earlier(entry, reference.frame).prefix(reference.layers))
    latent: Latent | None = None
    for packet in reversed(chain):
        latent = codec.unpack(packet, latent)
    assert latent is not None
    return latent


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

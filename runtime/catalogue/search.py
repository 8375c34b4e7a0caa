"""Search in a catalogue: every embedding of a time is compared, by two readers that share the blocks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, PacketError
from edgesem.semantics.embedding import EMBEDDING_BYTES, Query, from_bytes
from runtime.catalogue.block import BLOCK_FRAMES, similarities
from runtime.catalogue.catalogue import FRAMES, Catalogue
from runtime.catalogue.catalogue_entry import ENTRY_COLUMNS, entry_of
from runtime.receiver.search import Hit

log = logging.getLogger(__name__)

MOST_FRAMES = 20_000_000
"""Frames that are compared at a time: 24 bytes of memory each."""
_READERS = 2
_BLOCKS = 1024
"""Blocks that are read at a time, 7 MB."""
_CANDIDATES = 8
_SOUND = (
    f"frames between 1 and {BLOCK_FRAMES} and octet_length(embeddings) = {EMBEDDING_BYTES} * frames "
    "and octet_length(scales) = 4 * frames and octet_length(streams) = 4 * frames and octet_length(times) = 8 * frames"
)


@dataclass(frozen=True)
class _Compared:
    """What was found in some blocks, one element a frame; `captured_s` and `streams` are empty if nobody asks."""

    fits: npt.NDArray[np.float32]
    blocks: npt.NDArray[np.int64]
    places: npt.NDArray[np.int16]
    captured_s: npt.NDArray[np.float64]
    streams: npt.NDArray[np.int32]


def search(
    catalogue: Catalogue,
    query: Query,
    *,
    stream: str | None = None,
    since_s: float | None = None,
    until_s: float | None = None,
    most: int = 10,
    apart_s: float = 0.0,
) -> tuple[list[Hit], int]:
    """The `most` frames that fit the query best, best first, and the number of frames that were compared.

    Of frames of one stream that are nearer in time than `apart_s` seconds, only the best is returned. Raises what a
    `Catalogue` raises, and InputError where there are more than 20 million frames to compare.
    """
    asked = _Asked(catalogue, query, stream, since_s, until_s, details=apart_s > 0)
    with ThreadPoolExecutor(_READERS, "search") as pool:
        compared = list(pool.map(asked.compare, asked.ranges()))
    found = _Compared(*(np.concatenate([getattr(one, name) for one in compared]) for name in _FIELDS))
    return _best(catalogue, query, found, most, apart_s), len(found.fits)


_FIELDS = ("fits", "blocks", "places", "captured_s", "streams")


class _Asked:
    """A query with its conditions."""

    def __init__(
        self,
        catalogue: Catalogue,
        query: Query,
        stream: str | None,
        since_s: float | None,
        until_s: float | None,
        *,
        details: bool,
    ) -> None:
        self._catalogue, self._query = catalogue, query
        self._since_s = float("-inf") if since_s is None else since_s
        self._until_s = float("inf") if until_s is None else until_s
        self._stream = stream
        self._number = -1
        """Of the stream; of one that is not known, none has it."""
        if stream is not None:
            rows = catalogue.rows("select id from edgesem.streams where name = %s", (stream,))
            self._number = rows[0][0] if rows else -1
        self._in_time = since_s is not None or until_s is not None
        self._details = details or self._in_time or stream is not None

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First number and the one after the last, of blocks that are read at a time."""
        first, last, frames = self._catalogue.rows(
            "select min(id), max(id), coalesce(sum(frames), 0)::bigint from edgesem.blocks "
            "where last_s >= %s and first_s < %s",
            (self._since_s, self._until_s),
        )[0]
        if frames > MOST_FRAMES:
            raise InputError(f"{frames} frames are too many to be compared: give a shorter time")
        if first is None:
            return iter([(0, 0)])
        return ((start, min(start + _BLOCKS, last + 1)) for start in range(first, last + 1, _BLOCKS))

    def compare(self, numbers: tuple[int, int]) -> _Compared:
        """Compare the frames of some blocks."""
        more = ", streams, times" if self._details else ""
        rows = self._catalogue.rows(
            f"select id, frames, scales, embeddings{more} from edgesem.blocks where id >= %s and id < %s "
            f"and last_s >= %s and first_s < %s and {_SOUND}",
            (*numbers, self._since_s, self._until_s),
        )
        embeddings = np.frombuffer(b"".join(row[3] for row in rows), np.uint8).reshape(-1, EMBEDDING_BYTES)
        scales = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
        counts = np.array([row[1] for row in rows], np.int64)
        fits = similarities(embeddings, scales, self._query.vector)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        found = _Compared(
            fits,
            np.repeat(np.array([row[0] for row in rows], np.int64), counts),
            (np.arange(len(fits)) - starts).astype(np.int16),
            np.frombuffer(b"".join(row[5] for row in rows), "<f8") if self._details else np.empty(0),
            np.frombuffer(b"".join(row[4] for row in rows), "<i4") if self._details else np.empty(0, np.int32),
        )
        good = np.isfinite(fits)
        if self._stream is not None:
            good &= found.streams == self._number
        if self._in_time:
            good &= (found.captured_s >= self._since_s) & (found.captured_s < self._until_s)
        if good.all():
            return found
        return _Compared(*(part[good] if len(part) else part for part in (getattr(found, one) for one in _FIELDS)))


def _best(catalogue: Catalogue, query: Query, found: _Compared, most: int, apart_s: float) -> list[Hit]:
    """The best frames that are there still; those that were deleted leave their place in a block."""
    hits: list[Hit] = []
    count, start = min(len(found.fits), most * _CANDIDATES), 0
    while len(hits) < most and start < count:
        top = np.argpartition(-found.fits, count - 1)[:count] if count < len(found.fits) else np.arange(count)
        chosen = top[np.lexsort((top, -found.fits[top]))][start:]
        for hit in _hits(catalogue, query, found, chosen):
            near = (one.entry for one in hits if one.entry.stream == hit.entry.stream)
            if not any(abs(one.captured_s - hit.entry.captured_s) < apart_s for one in near):
                hits.append(hit)
            if len(hits) == most:
                break
        start, count = count, min(len(found.fits), count * _CANDIDATES)
    return hits


def _hits(catalogue: Catalogue, query: Query, found: _Compared, chosen: npt.NDArray[np.int64]) -> list[Hit]:
    """The frames at these places of the arrays, in this order."""
    pairs = [(int(found.blocks[one]), int(found.places[one])) for one in chosen]
    rows = catalogue.rows(
        f"select {ENTRY_COLUMNS}, f.block, f.place, substring(blocks.embeddings from f.place * {EMBEDDING_BYTES} + 1 "
        f"for {EMBEDDING_BYTES}) from {FRAMES} join unnest(%s::bigint[], %s::int[]) asked(block, place) "
        "on f.block = asked.block and f.place = asked.place join edgesem.blocks on blocks.id = f.block",
        ([one[0] for one in pairs], [one[1] for one in pairs]),
    )
    known = {(row[-3], row[-2]): row for row in rows}
    return [hit for pair in pairs if pair in known for hit in _hit(query, known[pair])]


def _hit(query: Query, row: Sequence[Any]) -> list[Hit]:
    try:
        vector, entry = from_bytes(bytes(row[-1])), entry_of(row[:-3])
    except (PacketError, InputError, TypeError) as error:  # the others are found all the same
        log.warning("left out: %s", error)
        return []
    return [Hit(entry, query.score(vector), float(query.vector @ vector))]

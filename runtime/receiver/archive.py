"""Archive of a receiver: all packets as they came, with their embeddings, in one SQLite file.

Ordinary frames make room before promised ones, the oldest first.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, PacketError
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, from_bytes
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver import archive_room, disk_room
from runtime.receiver.age_limit import AgeLimit
from runtime.receiver.archive_entry import MAX_BYTES, Entry, Total
from runtime.receiver.archive_file import FILE, SOUND, is_full, open_file

log = logging.getLogger(__name__)

_PRUNE_EVERY = 256
_SAY_EVERY_S = 3600.0
"""That a full disk lets the archive grow no more is logged so often."""
_LEAST_FREE_BYTES = 32 << 20
"""What deleting may need of the disk."""
_SPARE_BYTES = 16 << 10
"""Free pages of the file that a frame needs beyond its own bytes, for the indexes."""
_ENTRY = "id, stream, epoch, frame, captured_s, layers, size_bytes, promised, grey"


class Archive:
    """Archive in `folder`, searched by time and meaning; pictures are decoded on demand. Thread-safe.

    At most `max_bytes` of the file are used, and less where the disk has less than `free_bytes` free (None: 256 MiB, or
    an eighth of a disk below 2 GiB): what is the oldest goes, ordinary frames before promised ones. `tidy` deletes
    ordinary frames that were captured longer ago than `max_age_s`, and promised ones by `promised_max_age_s` (0:
    never). With `sync_promised`, promised frames survive a power cut as soon as `add` returns, and not only a kill.
    Raises InputError if the file is not an archive, or cannot be written; on a disk that is full now, it is opened once
    there is room. Use it as a context manager.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
        free_bytes: int | None = None,
        max_age_s: float = 0.0,
        promised_max_age_s: float = 0.0,
        sync_promised: bool = False,
        create: bool = True,
    ) -> None:
        self.path = folder / FILE
        self._max_bytes, self._free_bytes = max_bytes, free_bytes
        self._sync_promised = sync_promised
        self._age_limits = AgeLimit(max_age_s), AgeLimit(promised_max_age_s)
        """Of ordinary frames, and of promised ones."""
        self._lock, self._added = threading.Lock(), 0
        self._room_log = RateLimitedLog(log, every_s=_SAY_EVERY_S)
        if not create and not self.path.is_file():
            raise InputError(f"{folder} holds no {FILE}: name that of edgesem receive --archive, or of its --out")
        self._base: sqlite3.Connection | None = None
        try:
            self._base = open_file(self.path, create=create)
        except InputError as error:
            if not create or not is_full(folder):
                raise
            log.warning("%s: it is tried again with each frame", error)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._base is not None:
                self._base.close()

    def add(self, stream: str, packet: Packet, captured_s: float, *, grey: bool = False) -> None:
        """Add a frame; it replaces the same frame with fewer layers. Raises InputError if the disk does not take it.

        `grey` says that its camera gave no colour.
        """
        embedding = packet.side_info.embedding
        row = (
            *(stream, packet.epoch, packet.frame, packet.time_ms, captured_s, len(packet.chunks), packet.size_bytes),
            *(packet.bundle_id, embedding if len(embedding) == EMBEDDING_BYTES else None, packet.to_bytes()),
            *(int(packet.promised), int(grey)),
        )
        try:
            with self._lock:
                base = self._opened()
                self._make_room(base, packet.size_bytes)
                if self._sync_promised:
                    base.execute(f"pragma synchronous={'full' if packet.promised else 'normal'}")
                base.execute(
                    "insert into frames (stream, epoch, frame, time_ms, captured_s, layers, size_bytes, bundle_id, "
                    "embedding, packet, promised, grey) values (?,?,?,?,?,?,?,?,?,?,?,?) on conflict do update set "
                    "layers=excluded.layers, size_bytes=excluded.size_bytes, packet=excluded.packet, "
                    "promised=excluded.promised "
                    "where excluded.layers > layers",
                    row,
                )
                self._added += 1
                if self._added % _PRUNE_EVERY == 0:
                    archive_room.prune(base, self._max_bytes)
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path} does not take frame {packet.frame} of {stream}: {error}") from error

    def tidy(self) -> None:
        """Delete what is too old, and what is beyond `max_bytes`. InputError if the disk does not take that."""
        try:
            for promised, limit in enumerate(self._age_limits):
                with self._lock:
                    before_s = limit.before_s(archive_room.newest_s(self._opened(), promised))
                while before_s is not None:  # others add frames in between
                    with self._lock:
                        if not archive_room.expire(self._opened(), promised, before_s):
                            break
            with self._lock:
                archive_room.prune(self._opened(), self._max_bytes)
                archive_room.release(self._opened())
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path} cannot be tidied: {error}") from error

    def find(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> tuple[list[Entry], npt.NDArray[np.float32]]:
        """Frames of a stream and a time (Unix seconds), oldest first, and their embeddings, float32 [N, 128].

        The embedding of a packet that had none is zero.
        """
        where, values = _where(stream, since_s, until_s)
        rows = self._rows(f"select {_ENTRY}, embedding from frames where {where} order by captured_s, id", values)
        vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
        for place, row in enumerate(rows):
            if isinstance(row[-1], bytes):
                with contextlib.suppress(PacketError):
                    vectors[place] = from_bytes(row[-1])
        return [_entry(row) for row in rows], vectors

    def entries(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> list[Entry]:
        """The same frames without their embeddings."""
        where, values = _where(stream, since_s, until_s)
        rows = self._rows(f"select {_ENTRY} from frames where {where} order by captured_s, id", values)
        return [_entry(row) for row in rows]

    def spread(self, stream: str, since_s: float, until_s: float, count: int) -> list[Entry]:
        """At most `count` frames of a stream: the first in each of so many equal parts of a time (Unix seconds).

        Each costs one look-up, however many frames there are.
        """
        found: list[Entry] = []
        part_s, next_s = (until_s - since_s) / count, since_s
        while len(found) < count and next_s < until_s:
            rows = self._rows(
                f"select {_ENTRY} from frames where {SOUND} and stream = ? and captured_s >= ? and captured_s < ? "
                "order by captured_s limit 1",
                (stream, next_s, until_s),
            )
            if not rows:
                break
            found.append(_entry(rows[0]))
            captured_s = found[-1].captured_s
            part_end_s = since_s + (math.floor((captured_s - since_s) / part_s) + 1) * part_s
            next_s = max(part_end_s, math.nextafter(captured_s, math.inf))
        return found

    def newest(self, stream: str, until_s: float) -> Entry | None:
        """The frame of a stream that was captured last, at `until_s` (Unix seconds) or before; or None."""
        rows = self._rows(
            f"select {_ENTRY} from frames where {SOUND} and stream = ? and captured_s <= ? "
            "order by captured_s desc limit 1",
            (stream, until_s),
        )
        return _entry(rows[0]) if rows else None

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came. Raises InputError if it is not archived any more."""
        rows = self._rows("select packet from frames where id = ?", (entry.id,))
        if not rows:
            raise InputError(f"{self.path}: frame {entry.frame} of {entry.stream} is not kept any more")
        return self._packet(entry, rows[0][0])

    def earlier(self, entry: Entry, frame: int) -> tuple[Entry, Packet]:
        """Another frame of the same stream and epoch, which the packet of `entry` refers to, and its packet.

        Raises InputError if it is not archived.
        """
        rows = self._rows(
            f"select {_ENTRY}, packet from frames where {SOUND} and stream = ? and epoch = ? and frame = ? "
            "order by layers desc limit 1",
            (entry.stream, entry.epoch, frame),
        )
        if not rows:
            raise InputError(
                f"{self.path}: frame {entry.frame} of {entry.stream} refers to frame {frame}, which is not kept"
            )
        return _entry(rows[0]), self._packet(entry, rows[0][-1])

    def missing(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> list[Entry]:
        """Of these frames those that have no embedding."""
        entries, vectors = self.find(stream=stream, since_s=since_s, until_s=until_s)
        return [entry for entry, vector in zip(entries, vectors, strict=True) if not vector.any()]

    def set_embedding(self, entry: Entry, embedding: bytes) -> None:
        """Store the embedding of a frame whose packet had none."""
        try:
            with self._lock:
                self._opened().execute("update frames set embedding = ? where id = ?", (embedding, entry.id))
        except sqlite3.Error as error:
            raise InputError(f"{self.path} does not take an embedding: {error}") from error

    def streams(self) -> list[Total]:
        """What is kept of each stream, by name."""
        rows = self._rows(
            "select stream, count(*), sum(promised), min(captured_s), max(captured_s), sum(size_bytes) from frames "
            f"where {SOUND} group by stream order by stream"
        )
        return [Total(*row) for row in rows]

    def _opened(self) -> sqlite3.Connection:
        """The file, which a full disk may have kept from being opened before. Under the lock."""
        if self._base is None:
            self._base = open_file(self.path, create=True)
        return self._base

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Rows of a query. Raises InputError if the file is damaged."""
        try:
            with self._lock:
                return self._opened().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error

    def _packet(self, entry: Entry, data: object) -> Packet:
        try:
            return Packet.from_bytes(data if isinstance(data, bytes) else b"")
        except PacketError as error:
            raise InputError(f"{self.path}: frame {entry.frame} of {entry.stream} is damaged: {error}") from error

    def _make_room(self, base: sqlite3.Connection, size_bytes: int) -> None:
        """Delete the oldest frames if the disk is nearly full, and the file has no room for a frame of `size_bytes`."""
        free_bytes, left_bytes = disk_room.free_bytes(self.path), self._left_bytes()
        used_bytes, free_in_file_bytes = archive_room.file_bytes(base)
        if free_bytes >= left_bytes or free_in_file_bytes >= size_bytes + _SPARE_BYTES:
            return
        self._room_log.warn(
            "%s: %d MiB of its disk are free, and %d MiB stay free (out.free_bytes, --free-bytes): the archive has %d "
            "MiB and does not grow, the oldest frames make room",
            *(self.path, free_bytes >> 20, left_bytes >> 20, used_bytes >> 20),
        )
        archive_room.prune(base, None)  # while there is room for deleting; its pages are used again

    def _left_bytes(self) -> int:
        """How much of the disk is left free."""
        if self._free_bytes is None:
            return disk_room.reserve_bytes(self.path, disk_room.ORDINARY_FREE_BYTES)
        return max(self._free_bytes, disk_room.reserve_bytes(self.path, _LEAST_FREE_BYTES))


def _where(stream: str | None, since_s: float | None, until_s: float | None) -> tuple[str, list[object]]:
    """Condition of a query for the sound frames of a stream and a time, and its values."""
    where, values = [SOUND], list[object]()
    for clause, value in (("stream = ?", stream), ("captured_s >= ?", since_s), ("captured_s < ?", until_s)):
        if value is not None:
            where.append(clause)
            values.append(value)
    return " and ".join(where), values


def _entry(row: Sequence[Any]) -> Entry:
    """The entry of a row that begins with _ENTRY."""
    return Entry(*(*row[:7], bool(row[7]), bool(row[8])))

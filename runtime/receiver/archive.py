"""Archive of a receiver: all packets as they came, with their embeddings, in one SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, PacketError
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, from_bytes

FILE = "archive.sqlite"
MAX_BYTES = 4 << 30
_FORMAT = 1
_TABLE = """
create table if not exists frames (
  id integer primary key,
  stream text not null, epoch integer not null, frame integer not null, time_ms integer not null,
  captured_s real not null, layers integer not null, size_bytes integer not null, bundle_id integer not null,
  embedding blob, packet blob not null,
  unique (stream, epoch, frame, time_ms)
)
"""
_PRUNE_EVERY = 256
_PRUNED_SHARE = 0.05
_FREE_BYTES = 32 << 20
"""With less free on the disk than this, old frames make room for new ones."""
_FILE_MODE = 0o640
_SOUND = (
    "typeof(id) = 'integer' and typeof(stream) = 'text' and typeof(epoch) = 'integer' and typeof(frame) = 'integer' "
    "and typeof(captured_s) = 'real' and typeof(layers) = 'integer' and typeof(size_bytes) = 'integer'"
)
"""Of a row that is not damaged."""


@dataclass(frozen=True)
class Entry:
    """One archived frame."""

    id: int
    stream: str
    epoch: int
    frame: int
    captured_s: float
    """Capture time in Unix seconds, as far as sender's and receiver's clocks agree."""
    layers: int
    size_bytes: int


class Archive:
    """Archive in `folder`, searched by time and meaning; pictures are decoded on demand. Thread-safe.

    At most `max_bytes` of packets are kept, the newest, and fewer where the disk is nearly full. Raises InputError if
    the file is not an archive, or cannot be written. Use it as a context manager.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, create: bool = True) -> None:
        self.path = folder / FILE
        self._max_bytes, self._lock, self._added = max_bytes, threading.Lock(), 0
        if not create and not self.path.is_file():
            raise InputError(f"{folder} holds no {FILE}: name the folder that edgesem receive --archive writes to")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if create:
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, _FILE_MODE))  # sqlite would let all users read it
            self._base = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
            self._base.execute("pragma journal_mode=wal")
            self._base.execute("pragma synchronous=normal")
            version = self._base.execute("pragma user_version").fetchone()[0]
            if version not in (0, _FORMAT):
                raise InputError(f"{self.path} has format {version}, only {_FORMAT} is known here: update edgesem")
            self._base.execute(_TABLE)
            self._base.execute("create index if not exists by_time on frames (captured_s)")
            self._base.execute(f"pragma user_version={_FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path} cannot be used as an archive: {error}") from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def add(self, stream: str, packet: Packet, captured_s: float) -> None:
        """Add a frame; it replaces the same frame with fewer layers. Raises InputError if the disk does not take it."""
        embedding = packet.side_info.embedding
        row = (
            *(stream, packet.epoch, packet.frame, packet.time_ms, captured_s, len(packet.chunks), packet.size_bytes),
            *(packet.bundle_id, embedding if len(embedding) == EMBEDDING_BYTES else None, packet.to_bytes()),
        )
        try:
            with self._lock:
                if os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize < _FREE_BYTES:
                    self._prune(keep_bytes=None)  # while there is room for deleting; its pages are used again
                self._base.execute(
                    "insert into frames (stream, epoch, frame, time_ms, captured_s, layers, size_bytes, bundle_id, "
                    "embedding, packet) values (?,?,?,?,?,?,?,?,?,?) on conflict do update set "
                    "layers=excluded.layers, size_bytes=excluded.size_bytes, packet=excluded.packet "
                    "where excluded.layers > layers",
                    row,
                )
                self._added += 1
                if self._added % _PRUNE_EVERY == 0:
                    self._prune(self._max_bytes)
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path} does not take frame {packet.frame} of {stream}: {error}") from error

    def find(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> tuple[list[Entry], npt.NDArray[np.float32]]:
        """Frames of a stream and a time (Unix seconds), oldest first, and their embeddings, float32 [N, 128].

        The embedding of a packet that had none is zero.
        """
        where, values = [_SOUND], []
        for clause, value in (("stream = ?", stream), ("captured_s >= ?", since_s), ("captured_s < ?", until_s)):
            if value is not None:
                where.append(clause)
                values.append(value)
        rows = self._rows(
            "select id, stream, epoch, frame, captured_s, layers, size_bytes, embedding from frames "
            f"where {' and '.join(where)} order by captured_s, id",
            values,
        )
        vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
        for place, row in enumerate(rows):
            if isinstance(row[-1], bytes):
                with contextlib.suppress(PacketError):
                    vectors[place] = from_bytes(row[-1])
        return [Entry(*row[:-1]) for row in rows], vectors

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came. Raises InputError if it is not archived any more."""
        rows = self._rows("select packet from frames where id = ?", (entry.id,))
        if not rows:
            raise InputError(f"{self.path}: frame {entry.frame} of {entry.stream} is not kept any more")
        return self._packet(entry, rows[0][0])

    def earlier(self, entry: Entry, frame: int) -> Packet:
        """The packet of another frame of the same stream and epoch, which that of `entry` refers to.

        Raises InputError if it is not archived.
        """
        rows = self._rows(
            "select packet from frames where stream = ? and epoch = ? and frame = ? order by layers desc limit 1",
            (entry.stream, entry.epoch, frame),
        )
        if not rows:
            raise InputError(
                f"{self.path}: frame {entry.frame} of {entry.stream} refers to frame {frame}, which is not kept"
            )
        return self._packet(entry, rows[0][0])

    def set_embedding(self, entry: Entry, embedding: bytes) -> None:
        """Store the embedding of a frame whose packet had none."""
        try:
            with self._lock:
                self._base.execute("update frames set embedding = ? where id = ?", (embedding, entry.id))
        except sqlite3.Error as error:
            raise InputError(f"{self.path} does not take an embedding: {error}") from error

    def streams(self) -> Iterator[tuple[str, int]]:
        """Each stream and the number of its frames, by name."""
        yield from self._rows("select stream, count(*) from frames where typeof(stream) = 'text' group by 1 order by 1")

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Rows of a query. Raises InputError if the file is damaged."""
        try:
            with self._lock:
                return self._base.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error

    def _packet(self, entry: Entry, data: object) -> Packet:
        try:
            return Packet.from_bytes(data if isinstance(data, bytes) else b"")
        except PacketError as error:
            raise InputError(f"{self.path}: frame {entry.frame} of {entry.stream} is damaged: {error}") from error

    def _prune(self, keep_bytes: int | None) -> None:
        """Delete the oldest frames: what is beyond `keep_bytes`, or a part of all if None. Under the lock."""
        total = self._base.execute("select coalesce(sum(size_bytes), 0) from frames").fetchone()[0]
        if keep_bytes is not None and total <= keep_bytes:
            return
        excess, ids = total - (total if keep_bytes is None else keep_bytes) * (1 - _PRUNED_SHARE), []
        for number, size_bytes in self._base.execute("select id, size_bytes from frames order by captured_s, id"):
            if excess <= 0:
                break
            ids.append((number,))
            excess -= size_bytes
        self._base.executemany("delete from frames where id = ?", ids)

"""Archive of a receiver: all packets as they came, with their embeddings, in one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

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

    At most `max_bytes` of packets are kept, the newest. Raises InputError if the file is not an archive, or cannot be
    written. Use it as a context manager.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, create: bool = True) -> None:
        self.path = folder / FILE
        self._max_bytes, self._lock, self._added = max_bytes, threading.Lock(), 0
        if not create and not self.path.is_file():
            raise InputError(f"{folder} holds no {FILE}: name the folder that edgesem receive --archive writes to")
        try:
            folder.mkdir(parents=True, exist_ok=True)
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
                self._base.execute(
                    "insert into frames (stream, epoch, frame, time_ms, captured_s, layers, size_bytes, bundle_id, "
                    "embedding, packet) values (?,?,?,?,?,?,?,?,?,?) on conflict do update set "
                    "layers=excluded.layers, size_bytes=excluded.size_bytes, packet=excluded.packet "
                    "where excluded.layers > layers",
                    row,
                )
                self._added += 1
                if self._added % _PRUNE_EVERY == 0:
                    self._prune()
        except sqlite3.Error as error:
            raise InputError(f"{self.path} does not take frame {packet.frame} of {stream}: {error}") from error

    def find(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> tuple[list[Entry], npt.NDArray[np.float32]]:
        """Frames of a stream and a time (Unix seconds), oldest first, and their embeddings, float32 [N, 128].

        The embedding of a packet that had none is zero.
        """
        where, values = ["1"], []
        for clause, value in (("stream = ?", stream), ("captured_s >= ?", since_s), ("captured_s < ?", until_s)):
            if value is not None:
                where.append(clause)
                values.append(value)
        with self._lock:
            rows = self._base.execute(
                "select id, stream, epoch, frame, captured_s, layers, size_bytes, embedding from frames "
                f"where {' and '.join(where)} order by captured_s, id",
                values,
            ).fetchall()
        vectors = np.zeros((len(rows), DIMENSIONS), np.float32)
        for place, row in enumerate(rows):
            if row[-1] is not None:
                with contextlib.suppress(PacketError):
                    vectors[place] = from_bytes(row[-1])
        return [Entry(*row[:-1]) for row in rows], vectors

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came. Raises InputError if it is not archived any more."""
        with self._lock:
            row = self._base.execute("select packet from frames where id = ?", (entry.id,)).fetchone()
        if row is None:
            raise InputError(f"{self.path}: frame {entry.frame} of {entry.stream} is not kept any more")
        return Packet.from_bytes(row[0])

    def earlier(self, entry: Entry, frame: int) -> Packet:
        """The packet of another frame of the same stream and epoch, which that of `entry` refers to.

        Raises InputError if it is not archived.
        """
        with self._lock:
            row = self._base.execute(
                "select packet from frames where stream = ? and epoch = ? and frame = ? order by layers desc limit 1",
                (entry.stream, entry.epoch, frame),
            ).fetchone()
        if row is None:
            raise InputError(
                f"{self.path}: frame {entry.frame} of {entry.stream} refers to frame {frame}, which is not kept"
            )
        return Packet.from_bytes(row[0])

    def set_embedding(self, entry: Entry, embedding: bytes) -> None:
        """Store the embedding of a frame whose packet had none."""
        with self._lock:
            self._base.execute("update frames set embedding = ? where id = ?", (embedding, entry.id))

    def streams(self) -> Iterator[tuple[str, int]]:
        """Each stream and the number of its frames, by name."""
        with self._lock:
            rows = self._base.execute("select stream, count(*) from frames group by stream order by stream").fetchall()
        yield from rows

    def _prune(self) -> None:
        """Delete the oldest frames once there are too many bytes. Under the lock."""
        total = self._base.execute("select coalesce(sum(size_bytes), 0) from frames").fetchone()[0]
        if total <= self._max_bytes:
            return
        excess, ids = total - self._max_bytes * (1 - _PRUNED_SHARE), []
        for number, size_bytes in self._base.execute("select id, size_bytes from frames order by captured_s, id"):
            if excess <= 0:
                break
            ids.append((number,))
            excess -= size_bytes
        self._base.executemany("delete from frames where id = ?", ids)

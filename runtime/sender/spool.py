"""Spool: promised frames on disk, from the moment that they are promised until a receiver keeps them."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from edgesem.errors import InputError

log = logging.getLogger(__name__)

_EPOCHS = 2**16
_PAGE_BYTES = 4096
_SPARE_PAGES = 16
_SCHEMA = """
CREATE TABLE IF NOT EXISTS promised (
    id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, frame INTEGER NOT NULL, packet BLOB NOT NULL,
    UNIQUE (epoch, frame)
)
"""


class SpooledFrame(NamedTuple):
    """One promised frame as it stands on disk."""

    id: int
    """Its place in the order of promises."""
    packet: bytes


class SpoolFull(Exception):
    """The disk, or the space that the spool may use, has no room for one more frame."""


class Spool:
    """Queue of promised frames on disk, oldest first. Thread-safe.

    What `add` has returned for survives a kill of this process and a power cut (SQLite's WAL, synced at each commit).
    A file that is damaged is put aside and a new one begun: a daemon must start. The frames in it are then counted by
    nobody, so this is logged as an error.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _open(path, max_bytes)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
                os.replace(path, aside)
                for suffix in ("-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{path}{suffix}", f"{aside}{suffix}")
                log.error("%s was damaged (%s) and is now %s: promised frames in it were not sent", path, error, aside)
                self._db = _open(path, max_bytes)
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"cannot keep promised frames in {path}: {error}; name another monitor.state_dir"
            ) from error
        self._count = int(self._db.execute("SELECT count(*) FROM promised").fetchone()[0])

    @property
    def waiting(self) -> int:
        """How many frames are promised and not yet delivered."""
        return self._count

    def next_epoch(self) -> int:
        """The epoch of a new start: one more than the last, and none that a frame which waits has.

        Two frames must never have the same number; and a receiver takes an epoch that it knows for one that goes on.
        """
        with self._lock:
            taken = {row[0] for row in self._db.execute("SELECT DISTINCT epoch FROM promised")}
            last = self._db.execute("PRAGMA user_version").fetchone()[0]  # 0: there was none
            begin = last if last > 0 else secrets.randbelow(_EPOCHS)
            epoch = next(number % _EPOCHS for number in range(begin, begin + _EPOCHS) if number % _EPOCHS not in taken)
            try:
                self._db.execute(f"PRAGMA user_version = {epoch + 1}")
            except sqlite3.OperationalError as error:
                log.error("cannot note that epoch %d has begun: %s", epoch, error)
                epoch = secrets.choice(sorted(set(range(_EPOCHS)) - taken))
        return epoch

    def add(self, *, epoch: int, frame: int, packet: bytes) -> None:
        """Keep one frame; when this returns, it is on the disk. Raises SpoolFull."""
        with self._lock:
            try:
                self._db.execute("INSERT INTO promised (epoch, frame, packet) VALUES (?, ?, ?)", (epoch, frame, packet))
            except sqlite3.OperationalError as error:  # full, read-only, an I/O error
                with contextlib.suppress(sqlite3.Error):
                    self._db.rollback()
                raise SpoolFull(str(error)) from error
            self._count += 1

    def after(self, row_id: int) -> SpooledFrame | None:
        """The oldest frame with a larger id than `row_id`, or None."""
        with self._lock:
            found = self._db.execute(
                "SELECT id, packet FROM promised WHERE id > ? ORDER BY id LIMIT 1", (row_id,)
            ).fetchone()
        return None if found is None else SpooledFrame(*found)

    def get(self, row_id: int) -> SpooledFrame | None:
        """The frame with this id, or None if it was delivered."""
        with self._lock:
            found = self._db.execute("SELECT id, packet FROM promised WHERE id = ?", (row_id,)).fetchone()
        return None if found is None else SpooledFrame(*found)

    def delivered(self, frames: Iterable[tuple[int, int]]) -> int:
        """Forget the frames, given as (epoch, frame), that a receiver has; returns how many of them were here."""
        gone = 0
        with self._lock:
            try:
                self._db.execute("BEGIN")
                for key in frames:
                    gone += self._db.execute("DELETE FROM promised WHERE epoch = ? AND frame = ?", key).rowcount
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:  # a full disk: they stay, and are sent and acknowledged again
                log.error("cannot remove delivered frames from the spool: %s", error)
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                return 0
            self._count -= gone
        return gone

    def close(self) -> None:
        """Leave the file whole."""
        with self._lock:
            self._db.close()


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=1.0)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second sender of the same stream finds it locked
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 1048576")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it fails its own check")
        db.execute(_SCHEMA)
        db.execute("SELECT id, epoch, frame, packet FROM promised LIMIT 1")
        db.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES + _SPARE_PAGES}")
    except BaseException:
        db.close()
        raise
    return db

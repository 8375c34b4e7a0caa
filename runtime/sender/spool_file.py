"""File of a spool: an SQLite database that is opened as a spool needs it, with a reserve of disk space beside it."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.sender.disk_reserve import DiskReserve

_RESERVE_BYTES = 256 * 1024
_PAGE_BYTES = 4096
_SPARE_PAGES = 16
_SHRUNK_PAGES = 8
_NO_DISK = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
_NO_DISK_WORDS = ("readonly", "disk is full", "disk I/O", "unable to open")
_FRAMES = """
CREATE TABLE IF NOT EXISTS promised (
    id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, frame INTEGER NOT NULL, packet BLOB NOT NULL,
    UNIQUE (epoch, frame)
)
"""
# Apart from the frames: to change a row with a large packet would write all of it anew, on a disk that may be full.
_DEAD_LETTERS = "CREATE TABLE IF NOT EXISTS dead_letters (id INTEGER PRIMARY KEY, reason TEXT NOT NULL)"


class SpoolFile:
    """The database of a spool. Not thread-safe.

    What changes it takes the room of the reserve where the disk has no other. Each method raises sqlite3.DatabaseError.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Opens it; as `sqlite3.connect`, it raises sqlite3.OperationalError if it cannot be used now."""
        self._reserve = DiskReserve(path.with_name(f"{path.name}.reserve"), _RESERVE_BYTES)
        self._reserve.make()
        try:
            self._db = _open(path, max_bytes)
        except sqlite3.OperationalError as error:
            # An interrupted deletion, or the log of an earlier version, may need room to be completed.
            if "full" not in str(error) or not self._reserve.release():
                raise
            self._db = _open(path, max_bytes)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a SELECT or PRAGMA finds."""
        return self._db.execute(statement, values).fetchall()

    def insert(self, statement: str, values: Sequence[object]) -> int:
        """Add a row, without the room of the reserve; its id. If that fails, nothing has changed."""
        try:
            return int(self._db.execute(statement, values).lastrowid or 0)
        except sqlite3.DatabaseError:
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()
            raise

    def write(self, statement: str, values: Sequence[object] = ()) -> None:
        """Change something."""
        try:
            self._db.execute(statement, values)
        except sqlite3.OperationalError:
            if not self._reserve.release():
                raise
            self._db.execute(statement, values)

    def delete(self, which: str, keys: Sequence[tuple[int, ...]]) -> list[int]:
        """Delete the frames that a condition finds with each of a few keys, in one transaction; their ids."""
        for attempt in range(2):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                found = [self._db.execute(f"SELECT id FROM promised WHERE {which}", key).fetchone() for key in keys]
                gone = [int(row[0]) for row in found if row is not None]
                for row_id in gone:
                    self._db.execute("DELETE FROM promised WHERE id = ?", (row_id,))
                    self._db.execute("DELETE FROM dead_letters WHERE id = ?", (row_id,))
                self._db.execute("COMMIT")
                return gone
            except sqlite3.DatabaseError:
                with contextlib.suppress(sqlite3.Error):
                    self._db.rollback()
                if attempt or not self._reserve.release():
                    raise
        return []

    def make_reserve(self) -> bool:
        """Have the reserve, if need be in the space of deleted frames; whether it is there."""
        if self._reserve.make():
            return True
        with contextlib.suppress(sqlite3.Error):
            for _ in range(2 * _RESERVE_BYTES // _PAGE_BYTES // _SHRUNK_PAGES):
                self._db.execute(f"PRAGMA incremental_vacuum({_SHRUNK_PAGES})").fetchall()
        return self._reserve.make()

    def close(self) -> None:
        """Leave the file whole."""
        self._db.close()


def _open(path: Path, max_bytes: int) -> sqlite3.Connection:
    """The database, made if it is not there; a file of an earlier version gets the tables that it lacks.

    Raises sqlite3.DatabaseError if it is damaged, sqlite3.OperationalError if it cannot be used now, and OSError.
    """
    path.touch(mode=0o600)
    path.chmod(0o600)
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=1.0)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second sender of the same stream finds it locked
        db.execute("PRAGMA journal_mode = PERSIST")  # what a transaction has needed of the disk stays its own
        db.execute(f"PRAGMA journal_size_limit = {_RESERVE_BYTES}")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file: it can give space back
        db.execute("PRAGMA secure_delete = OFF")  # deleting then writes few pages, however large the frames are
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it fails its own check")
        db.execute("BEGIN EXCLUSIVE")
        db.execute(_FRAMES)
        db.execute(_DEAD_LETTERS)
        db.execute("COMMIT")
        db.execute("SELECT id, epoch, frame, packet FROM promised LIMIT 1")
        db.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES + _SPARE_PAGES}")
    except BaseException:
        db.close()
        raise
    return db


def put_aside(path: Path) -> Path:
    """Give a damaged database, with what SQLite has beside it, another name; returns that."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    os.replace(path, aside)
    for suffix in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def is_taken(error: Exception) -> bool:
    """Whether another process, or another part of this one, has the file open."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def is_no_disk(error: Exception) -> bool:
    """Whether a disk is full, read-only or broken: no reason for a sender not to start."""
    if isinstance(error, OSError):
        return error.errno in _NO_DISK
    return any(words in str(error) for words in _NO_DISK_WORDS)

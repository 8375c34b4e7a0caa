"""Spool: promised frames on disk, from the moment that they are promised until a receiver keeps them."""

from __future__ import annotations

import contextlib
import errno
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
from runtime.sender.disk_reserve import DiskReserve

log = logging.getLogger(__name__)

_EPOCHS = 2**16
_PAGE_BYTES = 4096
_SPARE_PAGES = 16
_RESERVE_BYTES = 256 * 1024
_SHRUNK_PAGES = 8
_DELETED_AT_ONCE = 8
"""Frames deleted in one transaction: its journal must fit into the reserve."""
_NO_DISK = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
_NO_DISK_WORDS = ("readonly", "disk is full", "disk I/O", "unable to open")
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
    """Empty if the disk does not give it back."""


class SpoolFull(Exception):
    """The disk, or the space that the spool may use, has no room for one more frame."""


class _Note(NamedTuple):
    """What a small file beside the database says of it, so that a loss is seen: see `_Notes`."""

    last_id: int = 0
    waiting: int = 0
    start: int = 0


class Spool:
    """Queue of promised frames on disk, oldest first. Thread-safe.

    What `add` has returned for survives a kill of this process and a power cut (SQLite's rollback journal, synced at
    each commit). Deleting needs room for the journal too: a reserve file beside the database keeps it, and nothing is
    added while that cannot be made. A small file notes the last frame and the number that waits, outside of the
    database, so that `lost` counts what a damaged disk has taken.

    A file that is damaged is put aside and a new one begun: a daemon must start. On a disk that is full or read-only
    nothing can be promised: `add` raises SpoolFull, and all else works. InputError for a path that cannot be used in
    another way, or that another sender uses.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.lost = 0
        """Frames that were promised and are not on the disk any more."""
        self.unusable = ""
        """Why nothing can be promised at all; empty if it can."""
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._reserve = DiskReserve(path.with_name(f"{path.name}.reserve"), _RESERVE_BYTES)
        self._note_path = path.with_name(f"{path.name}.note")
        self._count = 0
        self._note = _read_note(self._note_path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._reserve.make()
            self._db = self._open(path, max_bytes)
            self._count = int(self._db.execute("SELECT count(*) FROM promised").fetchone()[0])
            self._count_lost()
        except (OSError, sqlite3.Error) as error:
            if not _is_no_disk(error):
                raise InputError(
                    f"cannot keep promised frames in {path}: {error}; name another monitor.state_dir"
                ) from error
            self.close()
            self.unusable = f"{path}: {error}"
            log.error("nothing can be promised until the next start, ordinary frames go on: %s", self.unusable)

    @property
    def waiting(self) -> int:
        """How many frames are promised and not yet delivered."""
        return self._count

    def next_epoch(self) -> int:
        """The epoch of a new start: one more than the last, and none that a frame which waits has.

        Two frames must never have the same number; and a receiver takes an epoch that it knows for one that goes on.
        """
        with self._lock:
            if self._db is None:
                return secrets.randbelow(_EPOCHS)
            taken = {row[0] for row in self._db.execute("SELECT DISTINCT epoch FROM promised")}
            last = self._db.execute("PRAGMA user_version").fetchone()[0]  # 0: there was none
            begin = last if last > 0 else secrets.randbelow(_EPOCHS)
            epoch = next(number % _EPOCHS for number in range(begin, begin + _EPOCHS) if number % _EPOCHS not in taken)
            try:
                self._write(f"PRAGMA user_version = {epoch + 1}")
            except sqlite3.OperationalError as error:
                log.error("cannot note that epoch %d has begun: %s", epoch, error)
                epoch = secrets.choice(sorted(set(range(_EPOCHS)) - taken))
        return epoch

    def next_start(self) -> int:
        """The start counter of a new start: larger than each before, whatever the clock says.

        It is at least the Unix time in seconds, so that a device whose disk was replaced is not behind itself.
        """
        with self._lock:
            start = max(self._note.start + 1, int(time.time()))
            self._write_note(self._note._replace(start=start), sync=True)
        return start

    def add(self, *, epoch: int, frame: int, packet: bytes) -> int:
        """Keep one frame; when this returns its id, it is on the disk. Raises SpoolFull."""
        with self._lock:
            if self._db is None:
                raise SpoolFull(self.unusable or "the spool is closed")
            if not self._make_reserve():
                raise SpoolFull("the disk has no room, the last of it is kept for deleting")
            try:
                cursor = self._db.execute(
                    "INSERT INTO promised (epoch, frame, packet) VALUES (?, ?, ?)", (epoch, frame, packet)
                )
            except sqlite3.DatabaseError as error:  # full, read-only, an I/O error, damaged
                with contextlib.suppress(sqlite3.Error):
                    self._db.rollback()
                raise SpoolFull(str(error)) from error
            row_id = int(cursor.lastrowid or 0)
            self._count += 1
            self._write_note(self._note._replace(last_id=row_id, waiting=self._count))
        return row_id

    def before(self, row_id: int | None = None) -> SpooledFrame | None:
        """The newest frame with a smaller id than `row_id`, of all frames without one; or None."""
        return self._read("WHERE id < ? ORDER BY id DESC LIMIT 1", 2**62 if row_id is None else row_id)

    def get(self, row_id: int) -> SpooledFrame | None:
        """The frame with this id, or None if it was delivered."""
        return self._read("WHERE id = ?", row_id)

    def delivered(self, frames: Iterable[tuple[int, int]]) -> int:
        """Forget the frames, given as (epoch, frame), that a receiver has; returns how many of them were here."""
        keys = list(frames)
        gone = 0
        with self._lock:
            for begin in range(0, len(keys), _DELETED_AT_ONCE):
                try:
                    gone += self._delete(keys[begin : begin + _DELETED_AT_ONCE])
                except sqlite3.DatabaseError as error:  # they stay, and are sent and acknowledged again
                    log.error("cannot remove delivered frames from the spool: %s", error)
                    break
            self._count -= gone
            if gone:
                self._write_note(self._note._replace(waiting=self._count))
        return gone

    def close(self) -> None:
        """Leave the file whole."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _delete(self, keys: list[tuple[int, int]]) -> int:
        """Delete a few frames; with the room of the reserve, if there is no other. Under the lock."""
        if self._db is None:
            return 0
        for attempt in range(2):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                gone = sum(
                    self._db.execute("DELETE FROM promised WHERE epoch = ? AND frame = ?", key).rowcount for key in keys
                )
                self._db.execute("COMMIT")
                return gone
            except sqlite3.DatabaseError:
                with contextlib.suppress(sqlite3.Error):
                    self._db.rollback()
                if attempt or not self._reserve.release():
                    raise
        return 0

    def _make_reserve(self) -> bool:
        """Have the reserve, if need be in the space of deleted frames; whether it is there. Under the lock."""
        if self._reserve.make():
            return True
        assert self._db is not None
        with contextlib.suppress(sqlite3.Error):
            for _ in range(2 * _RESERVE_BYTES // _PAGE_BYTES // _SHRUNK_PAGES):
                self._db.execute(f"PRAGMA incremental_vacuum({_SHRUNK_PAGES})").fetchall()
        return self._reserve.make()

    def _write(self, statement: str) -> None:
        assert self._db is not None
        try:
            self._db.execute(statement)
        except sqlite3.OperationalError:
            if not self._reserve.release():
                raise
            self._db.execute(statement)

    def _read(self, where: str, row_id: int) -> SpooledFrame | None:
        with self._lock:
            if self._db is None:
                return None
            found = self._db.execute(f"SELECT id FROM promised {where}", (row_id,)).fetchone()
            if found is None:
                return None
            try:
                data = self._db.execute("SELECT packet FROM promised WHERE id = ?", found).fetchone()[0]
            except sqlite3.DatabaseError as error:
                log.error("promised frame %d cannot be read from the disk: %s", found[0], error)
                data = b""
        return SpooledFrame(found[0], data if isinstance(data, bytes) else b"")

    def _open(self, path: Path, max_bytes: int) -> sqlite3.Connection:
        try:
            return self._connect(path, max_bytes)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
            os.replace(path, aside)
            for suffix in ("-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{suffix}", f"{aside}{suffix}")
            self.lost = self._note.waiting
            log.error(
                "%s was damaged (%s) and is now %s: the promised frames in it, %d by our note, were not sent",
                path,
                error,
                aside,
                self.lost,
            )
            self._write_note(self._note._replace(last_id=0, waiting=0))
            return self._connect(path, max_bytes)

    def _connect(self, path: Path, max_bytes: int) -> sqlite3.Connection:
        try:
            return _connect(path, max_bytes)
        except sqlite3.OperationalError as error:
            # An interrupted deletion, or the log of an earlier version, may need room to be completed.
            if "full" not in str(error) or not self._reserve.release():
                raise
            return _connect(path, max_bytes)

    def _count_lost(self) -> None:
        """Compare the database with the note: rows that were added later than all that it knows are lost."""
        assert self._db is not None
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'promised'").fetchone()
        last_id = int(found[0]) if found else 0
        if last_id < self._note.last_id:
            self.lost += self._note.last_id - last_id
            log.error("%d promised frames were on the disk and are no more: they are lost", self.lost)
            # Their numbers are not given again, or the next loss would not be seen.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'promised'")
                self._db.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('promised', ?)", (self._note.last_id,)
                )
        self._write_note(_Note(max(last_id, self._note.last_id), self._count, self._note.start))

    def _write_note(self, note: _Note, *, sync: bool = False) -> None:
        self._note = note
        text = " ".join(map(str, note)).ljust(80) + "\n"  # always as long: it is written in place, and needs no room
        try:
            with open(os.open(self._note_path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(text.encode())
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            log.debug("no note in %s: %s", self._note_path, error)


def _read_note(path: Path) -> _Note:
    try:
        return _Note(*(int(word) for word in path.read_text("ascii").split()[:3]))
    except (OSError, ValueError):
        return _Note()


def _is_no_disk(error: Exception) -> bool:
    """Whether a disk is full, read-only or broken: no reason for a sender not to start."""
    if isinstance(error, OSError):
        return error.errno in _NO_DISK
    return any(words in str(error) for words in _NO_DISK_WORDS)


def _connect(path: Path, max_bytes: int) -> sqlite3.Connection:
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
        db.execute(_SCHEMA)
        db.execute("COMMIT")
        db.execute("SELECT id, epoch, frame, packet FROM promised LIMIT 1")
        db.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES + _SPARE_PAGES}")
    except BaseException:
        db.close()
        raise
    return db

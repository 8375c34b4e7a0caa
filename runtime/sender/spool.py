"""Spool: promised frames on disk, from the moment that they are promised until a receiver keeps them."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edgesem.errors import InputError
from runtime.sender.spool_file import SpoolFile, is_no_disk, is_taken, put_aside
from runtime.sender.spool_note import SpoolNote

log = logging.getLogger(__name__)

_EPOCHS = 2**16
_DELETED_AT_ONCE = 8
"""Frames deleted in one transaction: its journal must fit into the reserve."""


class SpooledFrame(NamedTuple):
    """One promised frame as it stands on disk."""

    id: int
    """Its place in the order of promises."""
    packet: bytes
    """Empty if the disk does not give it back."""


class SpoolFull(Exception):
    """The disk, or the space that the spool may use, has no room for one more frame."""


class Spool:
    """Queue of promised frames on disk, oldest first. Thread-safe.

    What `add` has returned for survives a kill of this process and a power cut (SQLite's rollback journal, synced at
    each commit). Deleting needs room for the journal too: a reserve file beside the database keeps it, and nothing is
    added while that cannot be made. A small file notes the last frame and the number that waits, outside of the
    database, so that `lost` counts what a damaged disk has taken.

    A frame that nobody takes becomes a dead letter, and is one with its reason after a restart too. Dead letters give
    way, oldest first, to new frames that have no room; then `lost` counts them.

    A file that is damaged is put aside and a new one begun: a daemon must start. On a disk that is full or read-only
    nothing can be promised: `add` raises SpoolFull, and all else works. InputError for a path that cannot be used in
    another way, or that another sender uses.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.lost = 0
        """Frames that were promised and are not on the disk any more."""
        self.path = path
        self.unusable = ""
        """Why nothing can be promised at all; empty if it can."""
        self._lock = threading.Lock()
        self._file: SpoolFile | None = None
        self._note_path = path.with_name(f"{path.name}.note")
        self._count = 0
        self._note = SpoolNote.read(self._note_path)
        self._rejected: dict[int, str] = {}
        """Reason of each dead letter, by its id."""
        self._not_noted: dict[int, str] = {}
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._open(path, max_bytes)
            self._count = self._file.rows("SELECT count(*) FROM promised")[0][0]
            self._rejected = dict(self._file.rows("SELECT id, reason FROM dead_letters JOIN promised USING (id)"))
            self._count_lost(self._file)
            if self._rejected:
                log.warning("%d promised frames in %s are dead letters: nobody took them", len(self._rejected), path)
        except (OSError, sqlite3.Error) as error:
            if is_taken(error):
                raise InputError(
                    f"another sender of this stream runs with {path}: give this one a name of its own (--device, "
                    "--stream), or stop the other"
                ) from error
            if not is_no_disk(error):
                raise InputError(
                    f"cannot keep promised frames in {path}: {error}; name another monitor.state_dir"
                ) from error
            self.close()
            self.unusable = f"{path}: {error}"
            log.error("nothing can be promised until the next start, ordinary frames go on: %s", self.unusable)

    @property
    def waiting(self) -> int:
        """How many frames are promised and not yet delivered, without the dead letters."""
        return self._count - len(self._rejected)

    @property
    def dead_letters(self) -> dict[int, str]:
        """Why each frame that nobody takes was rejected, by its id; a copy."""
        with self._lock:
            return dict(self._rejected)

    @property
    def rejected(self) -> int:
        """How many dead letters there are."""
        return len(self._rejected)

    def is_rejected(self, row_id: int) -> bool:
        """Whether a frame is a dead letter."""
        return row_id in self._rejected

    def next_epoch(self) -> int:
        """The epoch of a new start: one more than the last, and none that a frame which waits has.

        Two frames must never have the same number; and a receiver takes an epoch that it knows for one that goes on.
        """
        with self._lock:
            if self._file is None:
                return secrets.randbelow(_EPOCHS)
            taken = {row[0] for row in self._file.rows("SELECT DISTINCT epoch FROM promised")}
            last = self._file.rows("PRAGMA user_version")[0][0]  # 0: there was none
            begin = last if last > 0 else secrets.randbelow(_EPOCHS)
            epoch = next(number % _EPOCHS for number in range(begin, begin + _EPOCHS) if number % _EPOCHS not in taken)
            try:
                self._file.write(f"PRAGMA user_version = {epoch + 1}")
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
            if self._file is None:
                raise SpoolFull(self.unusable or "the spool is closed")
            if not self._file.make_reserve():
                raise SpoolFull("the disk has no room, the last of it is kept for deleting")
            while True:
                try:
                    added = "INSERT INTO promised (epoch, frame, packet) VALUES (?, ?, ?)"
                    row_id = self._file.insert(added, (epoch, frame, packet))
                    break
                except sqlite3.DatabaseError as error:  # full, read-only, an I/O error, damaged
                    if "full" not in str(error) or not self._drop_dead_letters():
                        raise SpoolFull(str(error)) from error
            self._count += 1
            self._write_note(self._note._replace(last_id=row_id, waiting=self._count))
        return row_id

    def reject(self, row_id: int, reason: str) -> None:
        """Make a frame that is here a dead letter; `note_rejected` writes it to the disk."""
        self._rejected[row_id] = self._not_noted[row_id] = reason

    def note_rejected(self) -> None:
        """Write to the disk which frames are dead letters now."""
        while self._not_noted:
            row_id, reason = self._not_noted.popitem()
            with self._lock:
                try:
                    if self._file is not None:
                        noted = "INSERT OR REPLACE INTO dead_letters (id, reason) VALUES (?, ?)"
                        self._file.write(noted, (row_id, reason))
                except sqlite3.DatabaseError as error:  # it is one until the next start
                    log.error("cannot note on the disk that promised frame %d was rejected: %s", row_id, error)

    def before(self, row_id: int | None = None) -> SpooledFrame | None:
        """The newest frame with a smaller id than `row_id`, of all frames without one; or None."""
        return self._read("WHERE id < ? ORDER BY id DESC LIMIT 1", 2**62 if row_id is None else row_id)

    def get(self, row_id: int) -> SpooledFrame | None:
        """The frame with this id, or None if it was delivered."""
        return self._read("WHERE id = ?", row_id)

    def delivered(self, frames: Iterable[tuple[int, int]]) -> int:
        """Forget the frames, given as (epoch, frame), that a receiver has; returns how many of them were here."""
        keys = list(frames)
        with self._lock:
            return self._remove("epoch = ? AND frame = ?", keys)

    def close(self) -> None:
        """Leave the file whole."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _drop_dead_letters(self) -> int:
        """Make room for a new frame; how many had to go. Under the lock."""
        oldest = sorted(self._rejected)[:_DELETED_AT_ONCE]
        gone = self._remove("id = ?", [(row_id,) for row_id in oldest])
        if gone:
            self.lost += gone
            log.error("the spool is full: %d promised frames that nobody took are deleted", gone)
        return gone

    def _remove(self, which: str, keys: Sequence[tuple[int, ...]]) -> int:
        """Delete the rows that a condition finds with each of the keys; how many there were. Under the lock."""
        gone: list[int] = []
        for begin in range(0, len(keys), _DELETED_AT_ONCE):
            try:
                if self._file is not None:
                    gone += self._file.delete(which, keys[begin : begin + _DELETED_AT_ONCE])
            except sqlite3.DatabaseError as error:  # they stay, and are sent and acknowledged again
                log.error("cannot remove frames from the spool: %s", error)
                break
        for row_id in gone:
            self._rejected.pop(row_id, None)
        self._count -= len(gone)
        if gone:
            self._write_note(self._note._replace(waiting=self._count))
        return len(gone)

    def _read(self, where: str, row_id: int) -> SpooledFrame | None:
        with self._lock:
            if self._file is None:
                return None
            found = self._file.rows(f"SELECT id FROM promised {where}", (row_id,))
            if not found:
                return None
            try:
                data = self._file.rows("SELECT packet FROM promised WHERE id = ?", found[0])[0][0]
            except sqlite3.DatabaseError as error:
                log.error("promised frame %d cannot be read from the disk: %s", found[0][0], error)
                data = b""
        return SpooledFrame(found[0][0], data if isinstance(data, bytes) else b"")

    def _open(self, path: Path, max_bytes: int) -> SpoolFile:
        try:
            return SpoolFile(path, max_bytes)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = put_aside(path)
            self.lost = self._note.waiting
            log.error(
                "%s was damaged (%s) and is now %s: the promised frames in it, %d by our note, were not sent",
                path,
                error,
                aside,
                self.lost,
            )
            self._write_note(self._note._replace(last_id=0, waiting=0))
            return SpoolFile(path, max_bytes)

    def _count_lost(self, file: SpoolFile) -> None:
        """Compare the database with the note: rows that were added later than all that it knows are lost."""
        found = file.rows("SELECT seq FROM sqlite_sequence WHERE name = 'promised'")
        last_id = int(found[0][0]) if found else 0
        if last_id < self._note.last_id:
            self.lost += self._note.last_id - last_id
            log.error("%d promised frames were on the disk and are no more: they are lost", self.lost)
            # Their numbers are not given again, or the next loss would not be seen.
            with contextlib.suppress(sqlite3.Error):
                file.write("DELETE FROM sqlite_sequence WHERE name = 'promised'")
                numbered = "INSERT INTO sqlite_sequence (name, seq) VALUES ('promised', ?)"
                file.write(numbered, (self._note.last_id,))
        self._write_note(SpoolNote(max(last_id, self._note.last_id), self._count, self._note.start))

    def _write_note(self, note: SpoolNote, *, sync: bool = False) -> None:
        self._note = note
        note.write(self._note_path, sync=sync)

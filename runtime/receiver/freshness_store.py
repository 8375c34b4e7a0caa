"""Freshness store: the newest birth and frame of each sealed stream, on disk.

Without it, a receiver that starts anew would take a recorded birth for the newest one, and show recorded packets.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from edgesem.errors import EdgesemError, InputError
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver.stream import FreshStart

log = logging.getLogger(__name__)

FILE = "freshness.sqlite"
_FORMAT = 1
_ALL = "select stream, public_key, birth, epoch, frame from starts order by number"
_WRITE_S = 1.0
_LAST_S = 5.0
_MOST = 10_000
"""Starts that are remembered; those heard longest ago go first."""
_TABLE = """
create table if not exists starts (
  stream text not null check (typeof(stream) = 'text'),
  public_key blob not null check (typeof(public_key) = 'blob'),
  birth blob not null check (typeof(birth) = 'blob'),
  epoch integer check (typeof(epoch) in ('integer', 'null')),
  frame integer check (typeof(frame) = typeof(epoch)),
  number integer not null,
  primary key (stream, public_key)
)
"""


class FreshnessStore:
    """Freshness store in `folder`. Thread-safe. Only births that a stream's key has authenticated belong here.

    From `begin` on, a thread writes each second, and at the end, what the receiver gives as new. Raises InputError if
    the file cannot be used. Use it as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._lock = threading.Lock()
        self._unsaved: dict[tuple[str, bytes], FreshStart] = {}
        """What the disk has not taken yet, by stream and public key."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._limited_log = RateLimitedLog(log)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:  # pictures are worth more than the memory of what was shown
                log.error("%s is damaged (%s), and set aside: what was shown before is not known now", self.path, error)
                os.replace(self.path, self.path.with_suffix(".damaged"))
                self._open()
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"{self.path} cannot be used: {error}; name another monitor.state_dir") from error

    def __enter__(self) -> FreshnessStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_LAST_S)  # a disk that hangs must not hold up the end of the program
        if self._lock.acquire(timeout=_LAST_S):  # else the disk hangs over what is being saved
            self._base.close()
            self._lock.release()

    def begin(self, news: Callable[[], Iterable[FreshStart]]) -> None:
        """Write from now on what `news()` gives: what is new since its last call."""
        self._thread = threading.Thread(target=self._run, args=(news,), name="freshness", daemon=True)
        self._thread.start()

    def load(self) -> list[FreshStart]:
        """All starts, those heard longest ago first. Raises InputError if the file cannot be read."""
        try:
            with self._lock:
                rows = self._base.execute(_ALL).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{self.path} cannot be read: {error}; delete it") from error
        return [
            FreshStart(stream, key, birth, None if frame is None else (epoch, frame))
            for stream, key, birth, epoch, frame in rows
        ]

    def save(self, starts: Iterable[FreshStart]) -> None:
        """Write these starts. Raises InputError if the disk does not take them."""
        try:
            with self._lock, self._base:
                number = self._base.execute("select coalesce(max(number), 0) from starts").fetchone()[0]
                self._base.executemany(
                    "insert into starts values (?,?,?,?,?,?) on conflict do update set birth=excluded.birth, "
                    "epoch=excluded.epoch, frame=excluded.frame, number=excluded.number",
                    [
                        (one.stream, one.public_key, one.birth, *(one.newest or (None, None)), number + 1)
                        for one in starts
                    ],
                )
                self._base.execute(
                    "delete from starts where rowid in "
                    "(select rowid from starts order by number desc limit -1 offset ?)",
                    (_MOST,),
                )
        except sqlite3.Error as error:
            raise InputError(f"{self.path} does not take what is to be remembered: {error}") from error

    def _run(self, news: Callable[[], Iterable[FreshStart]]) -> None:
        while not self._ended.wait(_WRITE_S):
            self._write(news)
        self._write(news)

    def _write(self, news: Callable[[], Iterable[FreshStart]]) -> None:
        try:
            self._unsaved |= {(one.stream, one.public_key): one for one in news()}
            if self._unsaved:
                self.save(self._unsaved.values())
                self._unsaved.clear()
        except EdgesemError as error:
            self._limited_log.warn("%s", error)
        except Exception:
            log.exception("the newest frames could not be remembered")

    def _open(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self._base = sqlite3.connect(self.path, check_same_thread=False, timeout=10)
        self._base.execute("pragma journal_mode=wal")
        self._base.execute("pragma synchronous=normal")
        version = self._base.execute("pragma user_version").fetchone()[0]
        if version not in (0, _FORMAT):
            raise InputError(f"{self.path} has format {version}, only {_FORMAT} is known here: update edgesem")
        with self._base:
            self._base.execute(_TABLE)
            self._base.execute(f"pragma user_version={_FORMAT}")
        self._base.execute(_ALL).fetchall()

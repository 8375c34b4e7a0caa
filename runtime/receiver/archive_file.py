"""File of an archive: an SQLite database of one table, which a reader and one writer may have open."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from edgesem.errors import InputError

FILE = "archive.sqlite"
_FORMAT = 1
_TABLE = """
create table if not exists frames (
  id integer primary key,
  stream text not null, epoch integer not null, frame integer not null, time_ms integer not null,
  captured_s real not null, layers integer not null, size_bytes integer not null, bundle_id integer not null,
  embedding blob, packet blob not null, promised integer not null default 0, grey integer not null default 0,
  unique (stream, epoch, frame, time_ms)
)
"""
SOUND = (
    "typeof(id) = 'integer' and typeof(stream) = 'text' and typeof(epoch) = 'integer' and typeof(frame) = 'integer' "
    "and typeof(captured_s) = 'real' and typeof(layers) = 'integer' and typeof(size_bytes) = 'integer'"
)
"""Of a row that is not damaged."""
_FILE_MODE = 0o640
_FULL_BYTES = 1 << 20


def open_file(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open an archive's file, and make it first if `create`. Any thread may use it, one at a time.

    Raises InputError if it is not an archive, or cannot be written.
    """
    base: sqlite3.Connection | None = None
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, _FILE_MODE))  # sqlite would let all users read it
        base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        base.execute("pragma auto_vacuum=incremental")  # of a new file; others only use again what was deleted
        base.execute("pragma journal_mode=wal")
        base.execute("pragma synchronous=normal")
        version = base.execute("pragma user_version").fetchone()[0]
        if version not in (0, _FORMAT):
            raise InputError(f"{path} has format {version}, only {_FORMAT} is known here: update edgesem")
        base.execute(_TABLE)
        if _lacking(base):
            base.execute("begin immediate")  # then look again: another process may just have added them
            for name in _lacking(base):
                base.execute(f"alter table frames add column {name} integer not null default 0")
            base.execute("commit")
        base.execute("create index if not exists by_time on frames (captured_s)")
        base.execute("create index if not exists by_worth on frames (promised, captured_s)")
        base.execute("create index if not exists by_stream on frames (stream, captured_s)")
        if not version:
            base.execute(f"pragma user_version={_FORMAT}")
    except (sqlite3.Error, OSError, InputError) as error:
        if base is not None:
            base.close()
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be used as an archive: {error}") from error
    return base


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room for the file of an archive."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _FULL_BYTES


def _lacking(base: sqlite3.Connection) -> set[str]:
    """Columns that an archive of edgesem 0.1 does not have."""
    return {"promised", "grey"} - {row[1] for row in base.execute("pragma table_info(frames)")}

"""Room in an archive's file: which frames go when it is too large or they are too old, and what the disk gets back.

All work on the open file, under the lock of its archive; they raise what sqlite3 raises.
"""

from __future__ import annotations

import sqlite3

from runtime.receiver.archive_file import SOUND

_PRUNED_SHARE = 0.05
_BATCH = 1000
"""Frames that are deleted at a time, while others wait to be added."""
_RELEASED_PAGES = 4096
_RELEASED_SHARE = 0.25
"""Where more of the file is free than this, its end is given back to the disk."""


def file_bytes(base: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the file that are in use, and those that are free in it. A sum over all rows would read it whole."""
    pages, free, page_bytes = (
        int(base.execute(f"pragma {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes, free * page_bytes


def prune(base: sqlite3.Connection, keep_bytes: int | None) -> None:
    """Delete the oldest frames, the ordinary ones first: what is beyond `keep_bytes`, or a part of all if None."""
    total, _ = file_bytes(base)
    if keep_bytes is not None and total <= keep_bytes:
        return
    excess, ids = total - (total if keep_bytes is None else keep_bytes) * (1 - _PRUNED_SHARE), []
    for number, size_bytes in base.execute("select id, size_bytes from frames order by promised, captured_s, id"):
        if excess <= 0:
            break
        ids.append((number,))
        excess -= size_bytes
    base.executemany("delete from frames where id = ?", ids)


def newest_s(base: sqlite3.Connection, promised: int) -> float:
    """When the newest frame was captured; far in the future if there is none."""
    query = f"select captured_s from frames where promised = ? and {SOUND} order by captured_s desc limit 1"
    row = base.execute(query, (promised,)).fetchone()
    return float("inf") if row is None else float(row[0])


def expire(base: sqlite3.Connection, promised: int, before_s: float) -> bool:
    """Delete a thousand frames that were captured before `before_s`; whether there may be more."""
    oldest = "select id from frames where promised = ? and captured_s < ? limit ?"
    done = base.execute(f"delete from frames where id in ({oldest})", (promised, before_s, _BATCH))
    return done.rowcount == _BATCH


def release(base: sqlite3.Connection) -> None:
    """Give a part of the free end of the file back to the disk, if it is large."""
    used, free = file_bytes(base)
    if free > _RELEASED_SHARE * (used + free):
        # `execute` would end after the first page.
        base.executescript(f"pragma incremental_vacuum({_RELEASED_PAGES}); pragma wal_checkpoint(truncate)")

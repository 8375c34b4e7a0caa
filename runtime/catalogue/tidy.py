"""Tidying of a catalogue: frames that are too old go, and then the blocks and objects that hold none."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from edgesem.errors import LinkError
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.objects import check_name
from runtime.catalogue.uploader import SEGMENTS

_BATCH = 10_000
_CLOCK = f"{SEGMENTS}/clock"
"""An object that is written, and deleted, for the time that it is stamped with."""
_UNNAMED_S = 86_400.0
"""An object that nobody names is deleted after so long: a receiver writes it before it says its name."""


class Tidied(NamedTuple):
    """What was deleted."""

    frames: int
    objects: int
    object_bytes: int


def tidy(catalogue: Catalogue, *, before_s: float, promised_before_s: float) -> Tidied:
    """Delete ordinary frames that were captured before `before_s` (Unix seconds), and promised ones by the other time.

    An object goes when none of its frames is left, so one with a promised frame stays as long as that. Can be ended
    and begun again at any time. Raises what a `Catalogue` raises.
    """
    frames = 0
    for promised, until_s in ((False, before_s), (True, promised_before_s)):
        while True:
            count = _run(
                catalogue,
                "delete from edgesem.frames where ctid = any(array(select ctid from edgesem.frames "
                "where captured_s < %s and promised = %s limit %s))",
                (until_s, promised, _BATCH),
            )
            frames += count
            if count < _BATCH:
                break
    newest_s = max(before_s, promised_before_s)
    _run(
        catalogue,
        "delete from edgesem.events e where begun_s < %s and not exists "
        "(select from edgesem.frames f where f.stream = e.stream and f.event = e.event)",
        (newest_s,),
    )
    _run(
        catalogue,
        "delete from edgesem.blocks where last_s < %s and not exists "
        "(select from edgesem.frames where frames.block = blocks.id)",
        (newest_s,),
    )
    objects, size_bytes = _delete_segments(catalogue)
    more, more_bytes = _delete_unnamed(catalogue)
    return Tidied(frames, objects + more, size_bytes + more_bytes)


def _delete_segments(catalogue: Catalogue) -> tuple[int, int]:
    """Delete the objects of which no frame is left; how many, and their bytes."""
    count = size_bytes = 0
    while True:
        rows = catalogue.rows(
            "select id, name, size_bytes from edgesem.segments where not exists "
            "(select from edgesem.frames where frames.segment = segments.id) limit %s",
            (_BATCH // 10,),
        )
        for number, name, segment_bytes in rows:
            if check_name(name).startswith(f"{SEGMENTS}/"):  # a catalogue of somebody else's deletes nothing else
                catalogue.objects.delete(name)  # before its row: what nobody names is found, but later
            _run(catalogue, "delete from edgesem.segments where id = %s", (number,))
            count, size_bytes = count + 1, size_bytes + segment_bytes
        if not rows:
            return count, size_bytes


def _delete_unnamed(catalogue: Catalogue) -> tuple[int, int]:
    """Delete objects that were written, and whose receiver was killed before it said their names."""
    count = size_bytes = 0
    # By the clock that stamps the objects, where ours is ahead of it: one may just have been written.
    with contextlib.suppress(LinkError):  # without it, an object is old only beside a newer one
        catalogue.objects.put(_CLOCK, b"")
    found = list(catalogue.objects.list(SEGMENTS))
    catalogue.objects.delete(_CLOCK)
    before_s = min(time.time(), max((one.changed_s for one in found), default=0.0)) - _UNNAMED_S
    old = [one for one in found if one.changed_s < before_s]
    for start in range(0, len(old), _BATCH):
        part = old[start : start + _BATCH]
        query = "select name from edgesem.segments where name = any(%s)"
        named = {row[0] for row in catalogue.rows(query, ([one.name for one in part],))}
        for one in part:
            if one.name not in named:
                catalogue.objects.delete(one.name)
                count, size_bytes = count + 1, size_bytes + one.size_bytes
    return count, size_bytes


def _run(catalogue: Catalogue, statement: str, values: tuple[object, ...]) -> int:
    with catalogue.database.connection() as connection, connection.transaction():
        connection.execute("set local statement_timeout = 0")  # of many frames it may take minutes
        return int(connection.execute(statement, values).rowcount)

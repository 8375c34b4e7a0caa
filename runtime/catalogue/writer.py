"""Writing to the catalogue: the frames of one segment in one transaction, each frame once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesem.errors import PacketError
from edgesem.packet.event_mark import EventMark
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import from_bytes
from runtime.catalogue.block import BLOCK_FRAMES, Block
from runtime.catalogue.database import Database
from runtime.receiver.archive_spool import SpooledFrame

if TYPE_CHECKING:
    from psycopg import Connection

_KEY = "stream, epoch, frame, time_ms"
_TYPES = "unnest(%s::int[], %s::bigint[], %s::bigint[], %s::bigint[])"
Key = tuple[int, int, int, int]
Place = tuple[int, int]
"""Of a frame in the blocks: number of the block, and which of its frames."""


class CatalogueWriter:
    """Writer for one receiver, whose archive is called `receiver`. For one thread."""

    def __init__(self, database: Database, receiver: str) -> None:
        self._database, self._receiver = database, receiver

    def say_place(self, place: str) -> str:
        """Say where the objects are, if nobody has said it yet; what the catalogue says."""
        with self._database.connection() as connection, connection.transaction():
            connection.execute("lock table edgesem.about in exclusive mode")
            row = connection.execute("select objects from edgesem.about").fetchone()
            if row is None:
                connection.execute("insert into edgesem.about values (%s)", (place,))
            return place if row is None else str(row[0])

    def add(self, segment: str, frames: Sequence[SpooledFrame]) -> int | None:
        """Add the frames whose packets stand one after another in the object `segment`; how many were not there.

        A frame that is there with fewer layers is replaced; one with as many or more stays. None where that is so of
        all: then nothing names the segment. All of it or nothing is added: raises LinkError if the database is away,
        also where it may have been added and nobody could say so; then it is added again, which changes nothing.
        """
        with self._database.connection() as connection, connection.transaction():
            streams = _numbers(connection, (one.stream for one in frames))
            starts, size_bytes = {}, 0
            for one in frames:
                starts[streams[one.stream], one.epoch, one.frame, one.time_ms] = one, size_bytes
                size_bytes += len(one.packet)
            known = _layers_of(connection, starts)
            better = [key for key, (one, _) in starts.items() if one.layers > known.get(key, 0)]
            if not better:
                return None
            row = connection.execute(
                "insert into edgesem.segments (name, size_bytes, receiver) values (%s, %s, %s) returning id",
                (segment, size_bytes, self._receiver),
            ).fetchone()
            assert row is not None
            new = [key for key in better if key not in known]
            seen = ((key, starts[key][0].captured_s, starts[key][0].embedding) for key in new)
            good = [(key, captured_s, data) for key, captured_s, data in seen if data and _is_good(data)]
            places = add_to_blocks(connection, self._receiver, good)
            events = _events_of(starts[key][0] for key in better)
            _add_events(connection, streams, events.values())
            connection.cursor().executemany(
                f"insert into edgesem.frames ({_KEY}, captured_s, layers, size_bytes, bundle_id, promised, grey, "
                "segment, start, block, place, event) values (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s) "
                f"on conflict ({_KEY}) do update set layers = excluded.layers, size_bytes = excluded.size_bytes, "
                "promised = excluded.promised, segment = excluded.segment, start = excluded.start "
                "where excluded.layers > frames.layers",
                [
                    (
                        *(*key, one.captured_s, one.layers, len(one.packet), one.bundle_id, one.promised, one.grey),
                        *(row[0], start, *places.get(key, (None, None))),
                        events[one.id][1].event if one.id in events else None,
                    )
                    for key, (one, start) in ((key, starts[key]) for key in sorted(better))
                ],
            )
        return len(new)


def _numbers(connection: Connection[Any], names: Iterable[str]) -> dict[str, int]:
    """Numbers of streams, which are made for those that are new. Read each time: a catalogue that was away may come
    back with others."""
    wanted = sorted(set(names))
    query = "select name, id from edgesem.streams where name = any(%s)"
    found = dict(connection.execute(query, (wanted,)).fetchall())
    new = [name for name in wanted if name not in found]
    if new:
        connection.execute(
            "insert into edgesem.streams (name) select unnest(%s::text[]) on conflict do nothing", (new,)
        )
        found = dict(connection.execute(query, (wanted,)).fetchall())
    return found


def add_to_blocks(
    connection: Connection[Any], receiver: str, frames: Sequence[tuple[Key, float, bytes]]
) -> dict[Key, Place]:
    """Add frames, each with capture time and embedding, to a receiver's last block and to others after it."""
    places: dict[Key, Place] = {}
    row = connection.execute(
        "select id, streams, times, scales, embeddings from edgesem.blocks where receiver = %s and id = "
        "(select max(id) from edgesem.blocks where receiver = %s) and frames < %s for update",
        (receiver, receiver, BLOCK_FRAMES),
    ).fetchone()
    number, block = (None, Block()) if row is None else (int(row[0]), Block(*map(bytes, row[1:])))
    block.check()
    left = list(frames)
    while left:
        part, left = left[: BLOCK_FRAMES - block.frames], left[BLOCK_FRAMES - block.frames :]
        first = block.frames
        block = block.with_frames([one[0][0] for one in part], [one[1] for one in part], [one[2] for one in part])
        times = [one[1] for one in part]
        values = (block.frames, min(times), max(times), block.streams, block.times, block.scales, block.embeddings)
        if number is None:
            made = connection.execute(
                "insert into edgesem.blocks (frames, first_s, last_s, streams, times, scales, embeddings, receiver) "
                "values (%s, %s, %s, %s, %s, %s, %s, %s) returning id",
                (*values, receiver),
            ).fetchone()
            assert made is not None
            number = int(made[0])
        else:
            connection.execute(
                "update edgesem.blocks set frames = %s, first_s = least(first_s, %s), last_s = greatest(last_s, %s), "
                "streams = %s, times = %s, scales = %s, embeddings = %s where id = %s",
                (*values, number),
            )
        places.update({one[0]: (number, first + place) for place, one in enumerate(part)})
        number, block = None, Block()
    return places


def _events_of(frames: Iterable[SpooledFrame]) -> dict[int, tuple[SpooledFrame, EventMark]]:
    """The frames that belong to an event, with their marks, by their numbers in the spool."""
    found = {}
    for one in frames:
        if one.promised:  # all that belong to one are
            with contextlib.suppress(PacketError):
                mark = Packet.from_bytes(one.packet).side_info.event
                if mark is not None:
                    found[one.id] = one, mark
    return found


def _add_events(
    connection: Connection[Any], streams: Mapping[str, int], frames: Iterable[tuple[SpooledFrame, EventMark]]
) -> None:
    """Add the events that these frames belong to, unless they are there."""
    rows = {
        (streams[one.stream], mark.event): (one.captured_s - mark.since_ms / 1000, mark.cause, mark.label)
        for one, mark in frames
    }
    connection.cursor().executemany(
        "insert into edgesem.events (stream, event, begun_s, cause, label) values (%s, %s, %s, %s, %s) "
        "on conflict do nothing",
        [(*key, *rows[key]) for key in sorted(rows)],
    )


def _layers_of(connection: Connection[Any], keys: Iterable[Key]) -> dict[Key, int]:
    """Layers of those frames that are catalogued."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    rows = connection.execute(
        f"select {_KEY}, layers from edgesem.frames join {_TYPES} as asked({_KEY}) using ({_KEY})", columns
    )
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def _is_good(embedding: bytes) -> bool:
    try:
        from_bytes(embedding)
    except PacketError:
        return False
    return True

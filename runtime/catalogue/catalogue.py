"""Catalogue of the frames of several receivers, whichever of them took a frame; packets are read from the objects."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edgesem.errors import InputError, PacketError
from edgesem.packet.packet import Packet
from runtime.catalogue.catalogue_entry import (
    ENTRY_COLUMNS,
    CatalogueEntry,
    CatalogueEvent,
    entry_of,
    event_of,
    total_of,
)
from runtime.catalogue.database import Database
from runtime.catalogue.objects import Objects, open_objects
from runtime.catalogue.writer import add_to_blocks
from runtime.receiver.archive_entry import Entry, Total

FRAMES = (
    "edgesem.frames f join edgesem.streams on streams.id = f.stream join edgesem.segments on segments.id = f.segment"
)
_MOST_ROWS = 1_000_000
"""Frames that are listed at a time."""
_MOST_MISSING = 100_000
_COMPLETED = "search"
"""Receiver of the blocks that hold embeddings which were computed for a search."""
_READ_BYTES = 256 << 10
"""So much of an object is read at a time: the frames that one is decoded from stand near it."""
_KEPT_PIECES = 16


class Catalogue:
    """Catalogue in `database`; packets are in the objects at `place`, or where the catalogue says. Thread-safe.

    All methods raise LinkError while database or objects are away, and InputError for what is damaged or is not there.
    Use it as a context manager, which does not close the database.
    """

    def __init__(self, database: Database, place: str = "") -> None:
        self.database, self._place = database, place
        self._objects: Objects | None = None
        self._lock = threading.Lock()
        self._pieces: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        """Of objects, by name and first byte; those read last."""

    @classmethod
    def open(cls, url: str, password_file: Path | None = None, place: str = "") -> Catalogue:
        """The catalogue at a URL, checked. Raises what `Database` raises, and InputError if it is of another form."""
        catalogue = cls(Database(url, password_file), place)
        catalogue.database.check()
        return catalogue

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.__exit__(kind, error, trace)

    @property
    def objects(self) -> Objects:
        """The objects, opened at the first use."""
        with self._lock:
            if self._objects is None:
                place = self._place
                if not place:
                    rows = self.rows("select objects from edgesem.about limit 1")
                    if not rows or not isinstance(rows[0][0], str):
                        raise InputError("the catalogue does not say where the packets are: name it by --objects")
                    place = rows[0][0]
                self._objects = open_objects(place)
            return self._objects

    @property
    def now_s(self) -> float:
        """What the server's clock says, in Unix seconds."""
        return float(self.rows("select extract(epoch from clock_timestamp())::float8")[0][0])

    @property
    def size_bytes(self) -> int:
        """What its tables take on the server's disk; packets are not in them."""
        query = (
            "select sum(pg_total_relation_size(oid))::bigint from pg_class where relnamespace = 'edgesem'::regnamespace"
        )
        return int(self.rows(f"{query} and relkind = 'r'")[0][0])

    def entries(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> list[Entry]:
        """Frames of a stream and a time (Unix seconds), oldest first; InputError for more than a million."""
        where, values = _where(stream, since_s, until_s)
        rows = self.rows(
            f"select {ENTRY_COLUMNS} from {FRAMES} where {where} order by captured_s, f.stream, f.frame "
            f"limit {_MOST_ROWS + 1}",
            values,
        )
        if len(rows) > _MOST_ROWS:
            raise InputError(f"that are more than {_MOST_ROWS} frames: name a stream, or a shorter time")
        return [entry_of(row) for row in rows]

    def spread(self, stream: str, since_s: float, until_s: float, count: int) -> list[Entry]:
        """At most `count` frames of a stream: the first in each of so many equal parts of a time (Unix seconds)."""
        rows = self.rows(
            f"select {ENTRY_COLUMNS.replace('streams.name', '%(stream)s::text')} "
            "from generate_series(0, %(count)s - 1) part, lateral (select * from edgesem.frames "
            "where stream = (select id from edgesem.streams where name = %(stream)s) "
            "and captured_s >= %(since)s + part * %(part)s and captured_s < %(since)s + (part + 1) * %(part)s "
            "order by captured_s limit 1) f join edgesem.segments on segments.id = f.segment order by part",
            {"stream": stream, "count": count, "since": since_s, "part": (until_s - since_s) / count},
        )
        return [entry_of(row) for row in rows]

    def newest(self, stream: str, until_s: float) -> Entry | None:
        """The frame of a stream that was captured last, at `until_s` (Unix seconds) or before; or None."""
        rows = self.rows(
            f"select {ENTRY_COLUMNS} from {FRAMES} where f.stream = (select id from edgesem.streams where name = %s) "
            "and captured_s <= %s order by captured_s desc limit 1",
            (stream, until_s),
        )
        return entry_of(rows[0]) if rows else None

    def latest(self, since_s: float, most: int) -> list[Entry]:
        """The newest frame of each stream that has one since `since_s` (Unix seconds), newest first, at most `most`."""
        rows = self.rows(
            f"select {ENTRY_COLUMNS} from edgesem.streams, lateral (select * from edgesem.frames "
            "where stream = streams.id and captured_s >= %s order by captured_s desc limit 1) f "
            "join edgesem.segments on segments.id = f.segment order by f.captured_s desc limit %s",
            (since_s, most),
        )
        return [entry_of(row) for row in rows]

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came."""
        if not isinstance(entry, CatalogueEntry):
            raise TypeError(f"{type(entry).__name__} is of another store")
        what = f"frame {entry.frame} of {entry.stream}"
        try:
            packet = Packet.from_bytes(self._piece(entry.segment, entry.start, entry.size_bytes))
        except PacketError as error:
            raise InputError(f"{entry.segment}: {what} is damaged: {error}") from error
        if (packet.epoch, packet.frame) != (entry.epoch, entry.frame):
            raise InputError(f"{entry.segment}: {what} is not where the catalogue says")
        return packet

    def earlier(self, entry: Entry, frame: int) -> tuple[Entry, Packet]:
        """Another frame of the same stream and epoch, which the packet of `entry` refers to, and its packet."""
        rows = self.rows(
            f"select {ENTRY_COLUMNS} from {FRAMES} where f.stream = (select id from edgesem.streams where name = %s) "
            "and epoch = %s and frame = %s order by layers desc, captured_s desc limit 1",
            (entry.stream, entry.epoch, frame),
        )
        if not rows:
            raise InputError(f"frame {entry.frame} of {entry.stream} refers to frame {frame}, which is not catalogued")
        found = entry_of(rows[0])
        return found, self.packet(found)

    def streams(self) -> list[Total]:
        """What is catalogued of each stream, by name."""
        rows = self.rows(
            "select streams.name, count(*), count(*) filter (where promised), min(captured_s), max(captured_s), "
            "sum(f.size_bytes)::bigint from edgesem.frames f join edgesem.streams on streams.id = f.stream "
            "group by streams.name order by streams.name"
        )
        return [total_of(row) for row in rows]

    def events(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None, most: int = 50
    ) -> list[CatalogueEvent]:
        """The newest events of a stream and a time (Unix seconds) of which frames are catalogued, newest first."""
        where, values = _where(stream, since_s, until_s)
        rows = self.rows(
            "select streams.name, e.event, e.begun_s, e.cause, e.label, count(f.frame), min(f.captured_s), "
            "max(f.captured_s) from (select e.* from edgesem.events e join edgesem.streams on streams.id = e.stream "
            "where exists (select 1 from edgesem.frames f where f.stream = e.stream and f.event = e.event) "
            f"and {where.replace('captured_s', 'e.begun_s')} order by e.begun_s desc, e.event limit %s) e "
            "join edgesem.streams on streams.id = e.stream "
            "join edgesem.frames f on f.stream = e.stream and f.event = e.event "
            "group by 1, 2, 3, 4, 5 order by 3 desc, 2",
            (*values, most),
        )
        return [event_of(row) for row in rows]

    def missing(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> list[Entry]:
        """Of these frames those that have no embedding, oldest first; a hundred thousand at most."""
        where, values = _where(stream, since_s, until_s)
        rows = self.rows(
            f"select {ENTRY_COLUMNS} from {FRAMES} where block is null and {where} "
            f"order by f.stream, captured_s limit {_MOST_MISSING}",
            values,
        )
        return [entry_of(row) for row in rows]

    def set_embedding(self, entry: Entry, embedding: bytes) -> None:
        """Store the embedding of a frame whose packet had none, 64 bytes."""
        assert isinstance(entry, CatalogueEntry)
        with self.database.connection() as connection, connection.transaction():
            row = connection.execute("select id from edgesem.streams where name = %s", (entry.stream,)).fetchone()
            if row is None:
                return
            key = row[0], entry.epoch, entry.frame, entry.time_ms
            place = add_to_blocks(connection, _COMPLETED, [(key, entry.captured_s, embedding)])[key]
            connection.execute(
                "update edgesem.frames set block = %s, place = %s where stream = %s and epoch = %s and frame = %s "
                "and time_ms = %s and block is null",
                (*place, *key),
            )

    def _piece(self, segment: str, start: int, size_bytes: int) -> bytes:
        """Some bytes of an object, from those that were read last where they are there."""
        first = start - start % _READ_BYTES
        with self._lock:
            piece = self._pieces.get((segment, first), b"")
            if len(piece) >= start - first + size_bytes:
                self._pieces.move_to_end((segment, first))
                return piece[start - first : start - first + size_bytes]
        piece = self.objects.read(segment, first, start - first + max(size_bytes, _READ_BYTES))
        with self._lock:
            self._pieces[segment, first] = piece
            while len(self._pieces) > _KEPT_PIECES:
                self._pieces.popitem(last=False)
        return piece[start - first : start - first + size_bytes]

    def rows(self, query: str, values: Sequence[object] | dict[str, object] = ()) -> list[Any]:
        """Rows of a query of one statement."""
        with self.database.connection() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(query, values or None).fetchall()


def _where(stream: str | None, since_s: float | None, until_s: float | None) -> tuple[str, list[object]]:
    """Condition of a query for the frames of a stream and a time, and its values."""
    where, values = ["true"], list[object]()
    for clause, value in (("streams.name = %s", stream), ("captured_s >= %s", since_s), ("captured_s < %s", until_s)):
        if value is not None:
            where.append(clause)
            values.append(value)
    return " and ".join(where), values

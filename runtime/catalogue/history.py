"""History of all streams of a fleet: what the catalogue has, and of this receiver's streams what it lacks yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edgesem.errors import EdgesemError, InputError, LinkError
from edgesem.packet.packet import Packet
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.catalogue_entry import CatalogueEntry
from runtime.catalogue.database import Database
from runtime.receiver.archive import Archive
from runtime.receiver.archive_entry import Entry
from runtime.receiver.event_record import COMPLETE, EventRecord

_AWAY_S = 15.0
"""What did not answer, catalogue or objects, is not asked for so long: who looks back sees what is here meanwhile."""
_LATEST_S, _MOST_LATEST = 5.0, 2000
"""The newest frames of all streams are asked for so often at most, and of so many streams."""
_LATELY_S = 7 * 86400.0

T = TypeVar("T")


class FleetHistory:
    """History of the streams in the catalogue at `database`, and of those in this receiver's `archive`. Thread-safe.

    While the catalogue is away, it is that of the archive.
    """

    def __init__(self, database: Database, archive: Archive) -> None:
        self._catalogue, self._archive = Catalogue(database), archive
        self._away_until_s = self._objects_away_until_s = float("-inf")
        self._latest: list[Entry] = []
        self._refresh_at_s = float("-inf")
        self._lock = threading.Lock()

    def spread(self, stream: str, since_s: float, until_s: float, count: int) -> list[Entry]:
        """At most `count` frames of a stream: the first in each of so many equal parts of a time (Unix seconds)."""
        there = self._ask(lambda: self._catalogue.spread(stream, since_s, until_s, count)) or []
        here = self._archive.spread(stream, since_s, until_s, count)
        part_s = (until_s - since_s) / count
        firsts: dict[int, Entry] = {}
        for one in sorted([*there, *here], key=lambda one: one.captured_s):
            firsts.setdefault(int((one.captured_s - since_s) / part_s), one)
        return list(firsts.values())[:count]

    def newest(self, stream: str, until_s: float) -> Entry | None:
        """The frame of a stream that was captured last, at `until_s` (Unix seconds) or before; or None."""
        there = self._ask(lambda: self._catalogue.newest(stream, until_s))
        here = self._archive.newest(stream, until_s)
        if here is None or (there is not None and there.captured_s > here.captured_s):
            return there
        return here

    def latest(self) -> list[Entry]:
        """The newest frame of each stream of the catalogue that had one within a week, newest first, of 2000 streams.

        As they were when it was asked last: it is asked anew behind the caller's back, each 5 s at most, so that it
        holds up nobody, and many viewers cost as much as one.
        """
        with self._lock:
            if time.monotonic() >= self._refresh_at_s:
                self._refresh_at_s = float("inf")
                threading.Thread(target=self._refresh, name="catalogue", daemon=True).start()
            return self._latest

    def events(self, stream: str | None, before_s: float, most: int) -> list[EventRecord]:
        """The newest events of a stream of the catalogue, or of all, that began before a time (Unix seconds), newest
        first; none while it is away."""
        found = self._ask(lambda: self._catalogue.events(stream=stream, until_s=before_s, most=most)) or []
        return [
            EventRecord(
                *(one.id, one.stream, "", round(one.begun_s * 1000), one.cause, one.label, COMPLETE, one.frames),
                first_s=one.first_s - one.begun_s,
                last_s=one.last_s - one.begun_s,
            )
            for one in found
        ]

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came. LinkError if only the catalogue has it, and that or the objects are away:
        at once where they did not answer a moment ago."""
        if isinstance(entry, CatalogueEntry):
            return self._fetch(lambda: self._catalogue.packet(entry))
        return self._archive.packet(entry)

    def earlier(self, entry: Entry, frame: int) -> tuple[Entry, Packet]:
        """Another frame of the same stream and epoch, which the packet of `entry` refers to, and its packet. Raises as
        `packet` does."""
        try:
            return self._archive.earlier(entry, frame)
        except InputError:
            return self._fetch(lambda: self._catalogue.earlier(entry, frame))

    def _fetch(self, read: Callable[[], T]) -> T:
        if time.monotonic() < self._objects_away_until_s:
            raise LinkError("the catalogue's packets could not be read a moment ago: look again later")
        try:
            return read()
        except LinkError:
            self._objects_away_until_s = time.monotonic() + _AWAY_S
            raise

    def _refresh(self) -> None:
        try:
            found = self._ask(lambda: self._catalogue.latest(time.time() - _LATELY_S, _MOST_LATEST))
            if found is not None:
                self._latest = found
        finally:
            self._refresh_at_s = time.monotonic() + _LATEST_S

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The catalogue's answer; None while it is away."""
        if time.monotonic() < self._away_until_s:
            return None
        try:
            return question()
        except LinkError:
            self._away_until_s = time.monotonic() + _AWAY_S
        except EdgesemError:  # there are no tables yet, or a row is damaged
            pass
        return None

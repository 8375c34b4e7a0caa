"""Archive spool: which archived frames a catalogue does not have yet, in the archive's own file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from edgesem.errors import InputError
from edgesem.semantics.embedding import EMBEDDING_BYTES
from runtime.receiver.archive_file import FILE, SOUND, open_file

# A frame is noted in the transaction that adds it, so that a kill can come at any time.
# "or ignore" would not hold in `spool_fuller`: the conflict clause of the statement that fires a trigger overrides it.
_TABLES = (
    "create table spool (receiver text not null)",
    "insert into spool values (lower(hex(randomblob(8))))",
    "create table uncatalogued (id integer primary key)",
    "insert into uncatalogued select id from frames",
    "create trigger spool_new after insert on frames begin insert or ignore into uncatalogued values (new.id); end",
    "create trigger spool_fuller after update of layers on frames when new.layers > old.layers begin "
    "insert into uncatalogued select new.id where not exists (select 1 from uncatalogued where id = new.id); end",
    "create trigger spool_gone after delete on frames begin delete from uncatalogued where id = old.id; end",
)
_COLUMNS = (
    "id, stream, epoch, frame, time_ms, captured_s, layers, size_bytes, bundle_id, promised, grey, embedding, packet"
)


class SpooledFrame(NamedTuple):
    """An archived frame, whole."""

    id: int
    stream: str
    epoch: int
    frame: int
    time_ms: int
    captured_s: float
    layers: int
    size_bytes: int
    bundle_id: int
    promised: bool
    grey: bool
    embedding: bytes | None
    """As the packet's side information has it, 64 bytes; None if its sender sent none."""
    packet: bytes


class ArchiveSpool:
    """Spool in the file of the archive in `folder`, by a connection of its own. For one thread; a context manager.

    The first one notes all frames that are archived; from then on, each frame that is added or gets more layers is
    noted until `done`. Raises InputError if the archive cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._base = open_file(self._path, create=True)
        try:
            if not self._made():
                self._base.execute("begin immediate")  # then look again: another one may just have made them
                for statement in () if self._made() else _TABLES:
                    self._base.execute(statement)
                self._base.execute("commit")
            self.receiver = str(self._base.execute("select receiver from spool").fetchone()[0])
            """Name of this archive in the catalogue: random, and kept."""
        except sqlite3.Error as error:
            self._base.close()
            raise InputError(f"{self._path} cannot note what the catalogue lacks: {error}") from error

    def _made(self) -> bool:
        return self._base.execute("select 1 from sqlite_master where name = 'spool'").fetchone() is not None

    def __enter__(self) -> ArchiveSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    @property
    def waiting(self) -> int:
        """How many frames the catalogue lacks."""
        try:
            return int(self._base.execute("select count(*) from uncatalogued").fetchone()[0])
        except sqlite3.Error as error:
            raise InputError(f"{self._path} cannot be read: {error}") from error

    def take(self, most: int, most_bytes: int) -> list[SpooledFrame]:
        """The frames that have waited longest: at most `most`, of `most_bytes` together or one. They stay noted."""
        found: list[SpooledFrame] = []
        size_bytes = 0
        try:
            for row in self._base.execute(
                f"select {_COLUMNS} from uncatalogued join frames using (id) "
                f"where {SOUND} and typeof(packet) = 'blob' order by id limit ?",
                (most,),
            ):
                *plain, promised, grey, embedding, packet = row
                size_bytes += len(packet)
                if found and size_bytes > most_bytes:
                    break
                known = embedding if isinstance(embedding, bytes) and len(embedding) == EMBEDDING_BYTES else None
                found.append(SpooledFrame._make((*plain, bool(promised), bool(grey), known, packet)))
        except sqlite3.Error as error:
            raise InputError(f"{self._path} cannot be read: {error}") from error
        return found

    def done(self, frames: Iterable[SpooledFrame]) -> None:
        """The catalogue has these: they are noted no more, but for those that got more layers since `take`."""
        try:
            self._base.execute("begin immediate")
            self._base.executemany(
                "delete from uncatalogued where id = ? and exists (select 1 from frames where id = ? and layers <= ?)",
                [(one.id, one.id, one.layers) for one in frames],
            )
            self._base.execute("commit")
        except sqlite3.Error as error:
            if self._base.in_transaction:
                self._base.rollback()
            raise InputError(f"{self._path} cannot note what is catalogued: {error}") from error

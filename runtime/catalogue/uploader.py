"""Uploader of a receiver: brings archived frames to the common objects and the catalogue, and catches up after both.

Archive -> spool -> segment, an object of many packets -> rows of the catalogue -> the spool forgets
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from edgesem.errors import EdgesemError, InputError
from runtime.catalogue.database import Database
from runtime.catalogue.objects import Objects, is_bucket, open_objects
from runtime.catalogue.writer import CatalogueWriter
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver.archive_spool import ArchiveSpool

log = logging.getLogger(__name__)

SEGMENTS = "segments"
"""Prefix of the objects that hold packets."""
_MOST_FRAMES, _MOST_BYTES = 1000, 8 << 20
"""Of one segment."""
_LEAST_WAIT_S, _MOST_WAIT_S = 1.0, 30.0
"""Until it is tried again while catalogue or objects are away."""
_LAST_S = 10.0


class Uploader:
    """Uploader of the archive in `folder` to the objects at `place` and the catalogue in `database`.

    Every `period_s` seconds, what was archived since then becomes one object, and its frames rows of the catalogue in
    one transaction; a frame is forgotten by the spool only after that. A thread of its own works, which whatever is
    away holds up alone: the archive keeps what has come, and it is brought later, each frame once. Use it as a context
    manager; raises UsageError for a place that is none.
    """

    def __init__(self, database: Database, place: str, folder: Path, *, period_s: float) -> None:
        self.uploaded = 0
        """Frames that were brought to the catalogue."""
        self.waiting = 0
        """Frames that were not brought yet, when they were counted last."""
        self.trouble = ""
        """Why the last try has failed; empty after one that did not."""
        self.database = database
        self._objects: Objects = open_objects(place)
        # Whoever reads the catalogue has another working folder.
        self._place = place if is_bucket(place) else str(Path(place).absolute())
        self._folder, self._period_s = folder, period_s
        self._limited_log = RateLimitedLog(log, every_s=60.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)

    def __enter__(self) -> Uploader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_LAST_S)  # what is left is brought after the next start

    def _run(self) -> None:
        wait_s = 0.0
        failures = 0
        writer: CatalogueWriter | None = None
        spool: ArchiveSpool | None = None
        last = False
        while not last:
            last = self._ended.wait(wait_s)  # after the end, what has come until then is brought
            try:
                spool = spool or ArchiveSpool(self._folder)
                self.waiting = spool.waiting
                writer = writer or self._writer(spool.receiver)
                while self._bring(spool, writer) and not self._ended.is_set():
                    pass
                self.waiting = spool.waiting
                wait_s, failures = self._period_s, 0
                if self.trouble:
                    log.info("the catalogue is reached again")
                self.trouble = ""
            except Exception as error:  # whatever it is, receiving goes on, and the frames are in the archive
                self.trouble = str(error) or type(error).__name__
                known = isinstance(error, EdgesemError)
                writer = None  # the catalogue may come back empty, or from a backup
                self._limited_log.warn("%s; frames wait in the archive", self.trouble, exc_info=not known)
                failures += 1
                wait_s = min(_MOST_WAIT_S, _LEAST_WAIT_S * 2 ** min(failures - 1, 8)) * random.uniform(0.5, 1)
        if spool is not None:
            spool.__exit__(None, None, None)

    def _writer(self, receiver: str) -> CatalogueWriter:
        self.database.prepare()
        writer = CatalogueWriter(self.database, receiver)
        said = writer.say_place(self._place)
        if said != self._place:  # readers look there alone
            raise InputError(
                f"the catalogue says that packets are at {said}, and this receiver writes to {self._place}: "
                "name that place, and mount a shared folder at the same path everywhere"
            )
        return writer

    def _bring(self, spool: ArchiveSpool, writer: CatalogueWriter) -> bool:
        """Bring the frames that have waited longest; whether others wait that would fill a segment."""
        frames = spool.take(_MOST_FRAMES, _MOST_BYTES)
        if not frames:
            return False
        self.database.check()  # while the catalogue is away, no object is written that it would not know
        data = b"".join(one.packet for one in frames)
        name = segment_name(spool.receiver)
        self._objects.put(name, data)
        new = writer.add(name, frames)
        if new is None:
            self._objects.delete(name)
        spool.done(frames)
        self.uploaded += new or 0
        self.waiting = max(0, self.waiting - len(frames))
        return len(frames) == _MOST_FRAMES or len(data) > _MOST_BYTES // 2


def segment_name(receiver: str) -> str:
    """A name that no other segment has, below the day (UTC)."""
    now = datetime.now(timezone.utc)
    return f"{SEGMENTS}/{now:%Y/%m/%d}/{now:%H%M%S}-{receiver}-{secrets.token_hex(4)}"

"""Catalogue of a load run: receivers reach it through a forwarder, so that it can be away for a while; what came there
is counted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from edgesem.errors import InputError, UsageError
from runtime.bench.relay import Relay
from runtime.catalogue.database import Database

_PORT = 5432
_LOOK_S = 0.5
_PATIENCE_S = 120.0
"""How long the catalogue is waited for: a receiver tries again each 30 s at most, and brings frames each 10 s."""
_MINE = "edgesem.frames f join edgesem.streams s on s.id = f.stream where f.promised and starts_with(s.name, %s)"


class RunCatalogue:
    """The catalogue in the PostgreSQL database at `url`, which must have none: it is made, and dropped at the end.

    Packets go to `folder`. UsageError for a URL without a host, InputError for a database with a catalogue, LinkError
    while it does not answer. Use it as a context manager.
    """

    def __init__(self, url: str, password_file: Path | None, folder: Path) -> None:
        self._database = Database(url, password_file)
        parts = urlsplit(url)
        if not parts.hostname:
            raise UsageError("name the host of the catalogue: postgresql://USER@HOST/NAME")
        self._relay = Relay(target=(parts.hostname, parts.port or _PORT), rate_bps=None)
        user, _, _ = parts.netloc.rpartition("@")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        # The host keeps its name, by which its certificate is checked; the address is the relay's.
        place = f"{user}{'@' if user else ''}{host}:{self._relay.port}"
        query = "&".join(filter(None, (parts.query, "hostaddr=127.0.0.1")))
        self.arguments = ["--catalogue", urlunsplit(parts._replace(netloc=place, query=query))]
        """Of `edgesem receive`."""
        self.arguments += ["--objects", str(folder)]
        self.arguments += [] if password_file is None else ["--catalogue-password-file", str(password_file)]
        self._timers: list[threading.Timer] = []
        self._back_s: float | None = None
        """When it was reachable again, in Unix seconds."""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RunCatalogue:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._relay)
            stack.enter_context(self._database)
            with self._database.connection() as connection:
                if connection.execute("select to_regnamespace('edgesem')").fetchone() != (None,):
                    raise InputError(
                        f"{self._database.shown} holds a catalogue: name an empty database, or drop the schema edgesem"
                    )
            stack.callback(self._drop)
            self._database.prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
        self._stack.close()

    def stop_later(self, after_s: float, away_s: float) -> None:
        """Make it unreachable for receivers in `after_s` seconds, for `away_s` seconds."""
        self._timers = [threading.Timer(after_s, self._relay.stop), threading.Timer(after_s + away_s, self._start)]
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def wait_for(self, promised: int, site: str, wait: Callable[[float], None]) -> None:
        """Wait until it has so many promised frames of the site, or for two minutes. `wait` waits until a monotonic
        time."""
        give_up_s = time.monotonic() + _PATIENCE_S
        while self._count(site)[1] < promised and time.monotonic() < give_up_s:
            wait(time.monotonic() + _LOOK_S)

    def figures(self, promised: int, site: str) -> dict[str, Any]:
        """What became of the promised frames of a site, for JSON."""
        rows, frames = self._count(site)
        return {
            "promised_lost": promised - frames,
            "promised_twice": rows - frames,
            "caught_up_s": self._caught_up_s(site),
        }

    def _start(self) -> None:
        self._back_s = time.time()
        self._relay.start()

    def _count(self, site: str) -> tuple[int, int]:
        """Rows of promised frames, and how many frames these are."""
        rows = self._rows(f"select count(*), count(distinct (f.stream, f.epoch, f.frame)) from {_MINE}", f"{site}/")
        return int(rows[0][0]), int(rows[0][1])

    def _caught_up_s(self, site: str) -> float | None:
        """After it was reachable again, how long until the last frame was there that was captured before that."""
        if self._back_s is None:
            return None
        rows = self._rows(
            "select extract(epoch from clock_timestamp())::float8, extract(epoch from (select max(g.added) from "
            f"edgesem.segments g where g.id in (select f.segment from {_MINE} and f.captured_s <= %s)))::float8",
            f"{site}/",
            self._back_s,
        )
        now_s, last_s = rows[0]
        # Its clock is not ours.
        return None if last_s is None else round(max(0.0, last_s - (now_s - time.time()) - self._back_s), 2)

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._database.connection() as connection:
            return connection.execute(query, values).fetchall()

    def _drop(self) -> None:
        with self._database.connection() as connection:
            connection.execute("drop schema if exists edgesem cascade")

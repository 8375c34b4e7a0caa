"""Database of the catalogue: connections to a PostgreSQL that may be away, and the form of its tables."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from edgesem.errors import InputError, LinkError, UsageError, require
from edgesem.packet.keys import read_secret
from runtime.catalogue.migrations import migrate, schema_version

if TYPE_CHECKING:
    from psycopg import Connection

PASSWORD_VARIABLE = "EDGESEM_CATALOGUE_PASSWORD"
_MOST_LETTERS = 1000
_MOST_IDLE = 4
_OPTIONS = {
    "connect_timeout": 5,
    "application_name": "edgesem",
    # A server whose machine is gone answers nothing: without these, one waits a quarter of an hour.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000",
}


class Database:
    """PostgreSQL at `url`, `postgresql://USER@HOST:PORT/NAME`, with connections that are made when needed. Thread-safe.

    `password_file` holds the password in one line; without it $EDGESEM_CATALOGUE_PASSWORD counts, else what libpq finds
    (~/.pgpass). Raises UsageError for a URL that is none or holds a password, MissingDependency without psycopg. Use it
    as a context manager.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self.shown = check_url(url)
        """Where it is, for messages."""
        self._psycopg: Any = require("psycopg", "fleet")
        password = read_secret(password_file, PASSWORD_VARIABLE)
        self._url, self._options = url, {**_OPTIONS, **({"password": password} if password else {})}
        self._lock = threading.Lock()
        self._idle: list[Connection[Any]] = []
        self._closed = False

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """A connection for this thread, which commits each statement by itself; `transaction` of it joins several.

        Raises LinkError if the server is away, or goes away meanwhile, and InputError for what it refuses.
        """
        connection: Connection[Any] | None = None
        try:
            connection = self._connect()
            yield connection
        except (self._psycopg.OperationalError, self._psycopg.InterfaceError) as error:
            raise LinkError(f"the catalogue {self.shown} does not answer: {_line(error)}") from error
        except self._psycopg.Error as error:
            raise InputError(f"the catalogue {self.shown} refuses: {_line(error)}") from error
        finally:
            if connection is not None:
                self._put_back(connection)

    def prepare(self) -> None:
        """Make the tables, or bring them into the form that is known here. Raises what `connection` raises."""
        with self.connection() as connection, connection.transaction():
            migrate(connection)

    def check(self) -> None:
        """Raise InputError if its tables are not of the form that is known here."""
        with self.connection() as connection:
            schema_version(connection)

    def _connect(self) -> Connection[Any]:
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            if idle is None:
                break
            # A connection that is idle has nothing to say, but that it has ended.
            if not idle.closed and not select.select([idle.fileno()], [], [], 0)[0]:
                return idle
            idle.close()
        made: Connection[Any] = self._psycopg.connect(self._url, autocommit=True, **self._options)
        return made

    def _put_back(self, connection: Connection[Any]) -> None:
        idle = self._psycopg.pq.TransactionStatus.IDLE
        if not connection.closed and connection.info.transaction_status == idle:
            with self._lock:
                if not self._closed and len(self._idle) < _MOST_IDLE:
                    self._idle.append(connection)
                    return
        connection.close()


def check_url(url: str) -> str:
    """Host, port and name in a URL, for messages. UsageError if it is none, or holds a password."""
    try:
        parts = urlsplit(url)
        host, port, password, query = parts.hostname, parts.port, parts.password, parse_qs(parts.query)
    except ValueError as error:
        raise UsageError(f"the catalogue's URL cannot be read: {error}") from None
    good = parts.scheme in ("postgresql", "postgres") and len(url) <= _MOST_LETTERS and url.isprintable()
    if not good:
        raise UsageError("the catalogue is named as postgresql://USER@HOST:PORT/NAME")
    if password is not None or "password" in query:
        raise UsageError(
            "leave the password out of the catalogue's URL, which others on this machine can see: "
            f"use a password file or ${PASSWORD_VARIABLE}"
        )
    return f"{host or 'here'}{f':{port}' if port else ''}{parts.path}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

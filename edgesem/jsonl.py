"""Store of records in a JSON-lines file: appended one a line, looked up by key, kept between runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

Record = TypeVar("Record")


class JsonLines(Generic[Record]):
    """Append-only file of records; of two with one key the later counts.

    A last line that was cut short, because the run that wrote it was killed, is skipped when the file is read, and
    closed before the next record. So are lines that `decode` refuses: they were written by another version. For one
    process and one thread at a time.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: Callable[[Record], Hashable],
        encode: Callable[[Record], Any],
        decode: Callable[[Any], Record],
    ) -> None:
        """Read the file if it exists.

        encode: from a record to what JSON can hold, such as `dataclasses.asdict`. decode: back again; ValueError,
        TypeError, KeyError, AttributeError or IndexError from it mean that a line is no such record.
        """
        self._path, self._key, self._encode = path, key, encode
        self._records: dict[Hashable, Record] = {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                record = decode(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, IndexError):
                continue
            self._keep(record)
        self._cut = bool(text) and not text.endswith("\n")

    def get(self, key: Hashable) -> Record | None:
        """The record with this key, or None."""
        return self._records.get(key)

    def add(self, *records: Record) -> None:
        """Keep records, on disk at once."""
        lines = "".join(json.dumps(self._encode(record)) + "\n" for record in records)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + lines if self._cut else lines)
        self._cut = False
        for record in records:
            self._keep(record)

    def __iter__(self) -> Iterator[Record]:
        """All records, in the order in which they were last added."""
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def _keep(self, record: Record) -> None:
        key = self._key(record)
        self._records.pop(key, None)
        self._records[key] = record

"""Objects: packets of several receivers in one place, a shared folder or a bucket by the S3 protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edgesem.errors import EdgesemError, InputError, LinkError, UsageError, require
from edgesem.files import write_whole
from runtime.receiver.promised_store import FILE_MODE

MAX_OBJECT_BYTES = 64 << 20
_NAME = re.compile(r"[0-9A-Za-z_%+-][0-9A-Za-z._%+-]*(/[0-9A-Za-z_%+-][0-9A-Za-z._%+-]*){0,7}")
_MOST_LETTERS = 600
_S3 = "s3://"
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([0-9A-Za-z._/-]{0,200}))?")
_TIMES = {"timeout": "30s", "connect_timeout": "5s"}
_READ_TIMES = {"timeout": "10s", "connect_timeout": "5s"}
"""Somebody waits for what is read, and it is little."""
_RETRIES, _READ_RETRIES = 2, 1


class Found(NamedTuple):
    """An object that is there."""

    name: str
    size_bytes: int
    changed_s: float
    """Unix time."""


class Objects(Protocol):
    """Objects by name. Each call raises LinkError where the place does not answer, InputError for what is not there.

    `read` also raises InputError for an object that the place does not give out.
    """

    def put(self, name: str, data: bytes) -> None:
        """Write an object, whole or not at all."""

    def read(self, name: str, start: int, size_bytes: int) -> bytes:
        """So many bytes of an object, or fewer at its end."""

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""

    def list(self, prefix: str) -> Iterator[Found]:
        """All objects below `prefix`/."""


def open_objects(place: str) -> Objects:
    """The objects in a folder, or in `s3://BUCKET/PREFIX`.

    Of S3, address and keys are in the usual variables: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION. Raises UsageError for a place that is none, MissingDependency without obstore.
    """
    if not is_bucket(place):
        if not place or "://" in place or not place.isprintable():
            raise UsageError(f"{place[:100]!r} is no place for objects: name a folder, or s3://BUCKET/PREFIX")
        return FolderObjects(Path(place))
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"{place[:100]!r} is no place for objects: write s3://BUCKET or s3://BUCKET/PREFIX")
    return S3Objects(match[1], (match[2] or "").strip("/"))


def is_bucket(place: str) -> bool:
    """Whether a place is in an object store, else a folder."""
    return place.startswith(_S3)


def check_name(name: str) -> str:
    """The name of an object. InputError for one that may lead elsewhere: catalogues are written by others."""
    if len(name) > _MOST_LETTERS or not _NAME.fullmatch(name):
        raise InputError(f"{name[:80]!r} is no name of an object")
    return name


class FolderObjects:
    """Objects as files below `folder`, such as a shared one. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        path = self._folder / check_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, mode=FILE_MODE)
        except (OSError, InputError) as error:
            raise LinkError(f"{path} cannot be written: {error}") from error

    def read(self, name: str, start: int, size_bytes: int) -> bytes:
        path = self._folder / check_name(name)
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(min(size_bytes, MAX_OBJECT_BYTES))
        except FileNotFoundError as error:
            raise InputError(f"{path} is not there") from error
        except (PermissionError, IsADirectoryError) as error:  # of this object alone
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except OSError as error:
            raise LinkError(f"{path} cannot be read: {error.strerror}") from error

    def delete(self, name: str) -> None:
        path = self._folder / check_name(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LinkError(f"{path} cannot be deleted: {error.strerror}") from error

    def list(self, prefix: str) -> Iterator[Found]:
        try:
            for path in (self._folder / check_name(prefix)).rglob("*"):
                name = path.relative_to(self._folder).as_posix()
                if _NAME.fullmatch(name) and path.is_file():
                    about = path.stat()
                    yield Found(name, about.st_size, about.st_mtime)
        except OSError as error:
            raise LinkError(f"{self._folder} cannot be looked through: {error.strerror}") from error


class S3Objects:
    """Objects below `prefix` in a bucket that is there. Thread-safe."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._api: Any = require("obstore", "fleet")
        self._shown = f"{_S3}{bucket}" + (f"/{prefix}" if prefix else "")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        more: dict[str, Any] = {} if not endpoint else {"endpoint": endpoint, "virtual_hosted_style_request": False}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        plain = (endpoint or "").startswith("http://")
        try:
            self._store, self._reads = (
                require("obstore.store", "fleet").S3Store(
                    bucket,
                    prefix=prefix or None,
                    region=region,
                    client_options={**times, "allow_http": plain},
                    retry_config={"max_retries": retries},
                    **more,
                )
                for times, retries in ((_TIMES, _RETRIES), (_READ_TIMES, _READ_RETRIES))
            )
        except Exception as error:  # the library's own tree, which names no base for wrong settings
            raise UsageError(f"{self._shown} cannot be used: {_line(error)}") from error

    def put(self, name: str, data: bytes) -> None:
        self._do(name, lambda: self._api.put(self._store, check_name(name), data))

    def read(self, name: str, start: int, size_bytes: int) -> bytes:
        length = min(size_bytes, MAX_OBJECT_BYTES)
        denied = self._api.exceptions.PermissionDeniedError  # also for one that lies in an archive of the provider

        def get() -> Any:
            try:
                return self._api.get_range(self._reads, check_name(name), start=start, length=length)
            except denied as error:
                raise InputError(f"{self._shown} does not give {name}: {_line(error)}") from error

        return bytes(self._do(name, get))

    def delete(self, name: str) -> None:
        try:
            self._do(name, lambda: self._api.delete(self._store, check_name(name)))
        except InputError:  # it was not there
            return

    def list(self, prefix: str) -> Iterator[Found]:
        pages = iter(self._api.list(self._store, check_name(prefix)))
        while (page := self._do(prefix, lambda: next(pages, None))) is not None:
            for one in page:
                if _NAME.fullmatch(one["path"]):
                    yield Found(one["path"], one["size"], one["last_modified"].timestamp())

    def _do(self, name: str, call: Any) -> Any:
        try:
            return call()
        except EdgesemError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"{self._shown}: {name} is not there, or the bucket is not: {_line(error)}") from error
        except Exception as error:  # the library's own tree has no common base with Python's
            raise LinkError(f"{self._shown} does not take or give {name}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

"""Folder of pictures as a source: played once, again and again, or watched for pictures that come."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from edgesem.errors import EdgesemError
from edgesem.files import find_pictures, picture_files, read_picture
from runtime.capture.context import CaptureContext, Picture
from runtime.capture.frame import Frame
from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_AGAIN_S = 60.0  # the least time between two log lines of one kind


class _Version(NamedTuple):
    """What tells one content of a file from another."""

    size_bytes: int
    changed_ns: int


def folder_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pictures of a folder and of those in it, one each 1/fps; with `watch`, then those that come.

    A watched picture is read once its size and time stay the same; one that cannot be read then is read again when
    they change, and one that is written anew is a new picture. InputError if there are none and none are waited for.
    A picture that cannot be read, or a folder that is gone for a while, costs a log line: each picture of a folder that
    is played has its own, the first time; what is watched, or played again, has one now and then.
    """
    if context.settings.watch:
        return context.paced(_coming(context), 1 / context.fps)
    find_pictures(Path(context.uri))
    return _played(context)


def _played(context: CaptureContext) -> Iterator[Frame]:
    limited_log, again_log = RateLimitedLog(log, 0.0), RateLimitedLog(log, _AGAIN_S)
    while not context.stop.is_set():
        pictures = _readable(find_pictures(Path(context.uri)), context, limited_log)
        yield from context.paced(pictures, 1 / context.fps, limited_log)
        if not context.settings.loop:
            return
        limited_log = again_log


def _coming(context: CaptureContext) -> Iterator[tuple[Picture, str]]:
    """The pictures of a watched folder, as they come, until the stop."""
    done: dict[Path, _Version] = {}
    before: dict[Path, _Version] = {}
    limited_log = RateLimitedLog(log, _AGAIN_S)
    while not context.stop.is_set():
        try:
            found = _versions(Path(context.uri))
        except OSError as error:
            limited_log.warn("%s cannot be looked at: %s; looking again", context.uri, error)
            found = {}
        else:
            done = {path: version for path, version in done.items() if path in found}
        for path, version in found.items():
            if context.stop.is_set():
                return
            if version.size_bytes and before.get(path) == version != done.get(path):
                done[path] = version
                yield from _readable([path], context, limited_log)
        before = found
        context.stop.wait(_LOOK_S)


def _versions(folder: Path) -> dict[Path, _Version]:
    """The pictures there, and what tells their contents apart. Raises OSError if the folder cannot be read."""
    os.scandir(folder).close()  # the search below finds nothing there, without an error
    found = {}
    for path in picture_files(folder):
        try:
            about = path.stat()
        except OSError:  # gone meanwhile
            continue
        found[path] = _Version(about.st_size, about.st_mtime_ns)
    return found


def _readable(
    paths: Iterable[Path], context: CaptureContext, limited_log: RateLimitedLog
) -> Iterator[tuple[Picture, str]]:
    for path in paths:
        try:
            picture = read_picture(path, fit=context.most_kept)
        except EdgesemError as error:
            context.left_out.note(limited_log, "left out: %s", error)
            continue
        yield picture, path.stem

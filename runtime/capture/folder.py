"""Folder of pictures as a source: played once, again and again, or watched for pictures that come."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgesem.errors import EdgesemError
from edgesem.files import PICTURE_SUFFIXES, find_pictures, read_picture
from runtime.capture.context import CaptureContext, Picture
from runtime.capture.frame import Frame

log = logging.getLogger(__name__)

_LOOK_S = 0.5


def folder_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pictures of a folder, one each 1/fps; with `watch`, then those that come, each once it is whole.

    InputError if there are none and none are waited for. One that cannot be read costs a log line.
    """
    folder, watch = Path(context.uri), context.settings.watch
    seen: set[Path] = set()
    sizes: dict[Path, int] = {}
    while not context.stop.is_set():
        if watch:
            found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
            now = {path: path.stat().st_size for path in found if path not in seen and path.exists()}
            whole = [path for path, size in now.items() if size and sizes.get(path) == size]
            sizes = now
        else:
            whole = find_pictures(folder)
        seen.update(whole)
        yield from context.paced(_readable(whole), 1 / context.fps)
        if watch:
            seen.intersection_update(found)
            context.stop.wait(_LOOK_S)
        elif not context.settings.loop:
            return


def _readable(paths: Iterable[Path]) -> Iterator[tuple[Picture, str]]:
    for path in paths:
        try:
            picture = read_picture(path)
        except EdgesemError as error:
            log.warning("left out: %s", error)
            continue
        yield picture, path.stem

"""Pictures of a folder, without those that cannot be read: one damaged file must not end hours of work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgesem.errors import InputError
from edgesem.files import read_picture
from edgesem.quality.metrics import Frame

log = logging.getLogger(__name__)


def readable_pictures(paths: Iterable[Path]) -> Iterator[tuple[Path, Frame]]:
    """Each picture, uint8 [H, W, 3], with its path; one that cannot be read is left out with a warning.

    Raises InputError, with the first of them, if none can be read.
    """
    first: InputError | None = None
    count = 0
    for path in paths:
        try:
            frame = read_picture(path)
        except InputError as error:
            log.warning("left out: %s", error)
            first = first or error
            continue
        count += 1
        yield path, frame
    if first is not None and count == 0:
        raise first

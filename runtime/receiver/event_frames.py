"""Frames of one event on the disk, as JPEG files, until its clip is made of all of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MOST_FRAMES = 2048
"""Of one event: what a stranger sends beyond is left out."""
_NAME = re.compile(r"(\d{5})_([+-]\d{1,10})(L?)\.jpg")


class EventFrame(NamedTuple):
    """One frame of an event."""

    place: int
    """Among the event's frames, by time."""
    since_ms: int
    """From the event's beginning to its capture."""
    path: Path


@dataclass
class EventFrames:
    """Which frames are in `folder`. Not thread-safe.

    A file's name has all that is known of it, so that the folder can be read again after a restart.
    """

    folder: Path
    names: dict[int, str] = field(default_factory=dict)
    """File name by place."""
    last: int | None = None
    """Highest place that was marked as the last."""

    @classmethod
    def read(cls, folder: Path) -> EventFrames:
        """The frames that an earlier run has left."""
        frames = cls(folder)
        with contextlib.suppress(OSError), os.scandir(folder) as files:
            for file in files:
                if (match := _NAME.fullmatch(file.name)) is not None and len(frames.names) < MOST_FRAMES:
                    frames._add(int(match[1]), file.name, last=bool(match[3]))
        return frames

    @staticmethod
    def file_name(place: int, since_ms: int, *, last: bool) -> str:
        """Name of a frame's file."""
        return f"{place:05d}_{since_ms:+d}{'L' if last else ''}.jpg"

    def add(self, place: int, since_ms: int, *, last: bool) -> None:
        """A file was written."""
        self._add(place, self.file_name(place, since_ms, last=last), last=last)

    def _add(self, place: int, name: str, *, last: bool) -> None:
        self.names[place] = name
        if last:
            self.last = max(place, -1 if self.last is None else self.last)

    @property
    def is_whole(self) -> bool:
        """Whether all frames came, up to one that is the last; later ones may still prolong the event."""
        highest = max(self.names, default=-1)
        return self.last is not None and self.last >= highest and len(self.names) == self.last + 1

    @property
    def missing(self) -> int:
        """How many frames have not come, as far as is known."""
        highest = max([*self.names, -1 if self.last is None else self.last], default=-1)
        return highest + 1 - len(self.names)

    def __iter__(self) -> Iterator[EventFrame]:
        """The frames that are there, in order of time."""
        for place, name in sorted(self.names.items()):
            match = _NAME.fullmatch(name)
            if match is not None:
                yield EventFrame(place, int(match[2]), self.folder / name)

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

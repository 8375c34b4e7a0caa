"""Privacy mask: the parts of every picture that nobody may see, filled before anything else gets the picture.

A TOML file of polygons, whose points are shares of the picture's width and height, from its upper left corner:

    [[area]]
    name = "window of the neighbours"
    points = [[0.10, 0.20], [0.35, 0.20], [0.35, 0.55]]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.config import read_toml
from edgesem.errors import UsageError

FILL = 128
"""Grey level of what is hidden. Mid-grey needs fewer bytes than black: the step to what is around it is smaller."""
MARGIN = 4
"""How many pixels beyond its polygon an area reaches: shrinking a picture mixes pixels up to 3 apart."""
MAX_AREAS, MAX_POINTS = 64, 256
_MOST_SIZES = 4

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PrivacyMask:
    """Privacy mask of a camera. `apply` hides its areas in a picture. For one thread at a time."""

    areas: tuple[Points, ...]
    """The corners of each polygon, x and y as shares of the picture; where it crosses itself, all inside is hidden."""
    _hidden: dict[tuple[int, int], NDArray[np.bool_]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> PrivacyMask:
        """The mask in a file. InputError if it cannot be read, UsageError for anything in it that is no mask."""
        tree = read_toml(path)
        areas = tree.pop("area", None)
        if tree or not isinstance(areas, list) or not 1 <= len(areas) <= MAX_AREAS:
            wrong = f"unknown key {next(iter(tree))[:60]!r}" if tree else "there must be [[area]] tables"
            raise UsageError(
                f"{path}: {wrong}: a privacy mask is 1 to {MAX_AREAS} [[area]] with points = [[x, y], ...]"
            )
        return cls(tuple(_points(area, f"{path}: area {number}") for number, area in enumerate(areas, 1)))

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of a picture, uint8 [H, W, 3], with all that is hidden in one flat grey."""
        height, width = picture.shape[:2]
        masked = picture.copy()
        masked[self.hidden(height, width)] = FILL
        return masked

    def hidden(self, height: int, width: int) -> NDArray[np.bool_]:
        """Which pixels of a picture of this size are hidden, bool [height, width]. Kept for the next picture."""
        known = self._hidden.get((height, width))
        if known is None:
            while len(self._hidden) >= _MOST_SIZES:
                del self._hidden[next(iter(self._hidden))]
            known = np.zeros((height, width), bool)
            for area in self.areas:
                known |= _covered(area, height, width)
            self._hidden[height, width] = known
        return known


def _points(area: Any, where: str) -> Points:
    """The corners of one area, checked."""
    if not isinstance(area, Mapping) or set(area) - {"name", "points"}:
        raise UsageError(f"{where} has keys besides name and points: write points = [[x, y], ...]")
    if not isinstance(area.get("name", ""), str):
        raise UsageError(f"{where}: its name must be text")
    points = area.get("points")
    if not isinstance(points, list) or not 3 <= len(points) <= MAX_POINTS:
        raise UsageError(f"{where} must have 3 to {MAX_POINTS} points: points = [[x, y], [x, y], [x, y]]")
    found = []
    for point in points:
        good = isinstance(point, list) and len(point) == 2 and all(type(part) in (int, float) for part in point)
        if not good or not all(math.isfinite(part) and 0 <= part <= 1 for part in point):
            raise UsageError(f"{where}: {str(point)[:60]} is no point: x and y are shares of the picture, from 0 to 1")
        found.append((float(point[0]), float(point[1])))
    corners = np.array(found)
    if np.linalg.matrix_rank(corners - corners[0], tol=1e-6) < 2:
        raise UsageError(f"{where} covers nothing: its points are on one line")
    return tuple(found)


def _covered(area: Points, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of an area and of its margin, bool [height, width]."""
    from PIL import Image, ImageDraw, ImageFilter

    around = MARGIN + 1  # what lies on the picture's edge has a margin inside of it
    size = height + 2 * around, width + 2 * around
    x, y = np.arange(size[1]) + 0.5, (np.arange(size[0]) + 0.5)[:, None]
    corners = [(across * width + around, down * height + around) for across, down in area]
    turns = np.zeros(size, np.int32)  # how often the outline goes around each pixel
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        left = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        turns += ((y0 <= y) & (y1 > y) & (left > 0)).astype(np.int32)
        turns -= ((y1 <= y) & (y0 > y) & (left < 0)).astype(np.int32)
    drawn = Image.fromarray((turns != 0).astype(np.uint8) * 255)
    ImageDraw.Draw(drawn).line([*corners, corners[0]], fill=255, width=1)  # what is thinner than a pixel
    wide = np.asarray(drawn.filter(ImageFilter.MaxFilter(2 * MARGIN + 1))) > 0
    return wide[around : around + height, around : around + width]

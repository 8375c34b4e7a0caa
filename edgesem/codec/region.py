"""Region of interest: a box as a user names it, and the rectangle of latent positions that a packet carries."""

from __future__ import annotations

import math

from edgesem.entropy.schedule import STRIDE
from edgesem.errors import UsageError
from edgesem.packet.side_information import Region

DROP = 90  # quality levels by which the outside is coarser: it then costs about a third

Box = tuple[float, float, float, float]


def parse_box(text: str, width: int, height: int) -> Box:
    """Left, top, width and height as parts of the whole, from `x,y,w,h` in pixels, or in parts if points stand in it.

    UsageError for anything else, or a box that leaves the picture.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no region: write x,y,w,h in pixels, or 0.25,0.25,0.5,0.5 in parts") from None
    sides = (1.0, 1.0) if "." in text else (float(width), float(height))
    left, top, wide, high = (number / sides[place % 2] for place, number in enumerate(numbers))
    if not (left >= 0 and top >= 0 and 0 < wide <= 1 - left + 1e-6 and 0 < high <= 1 - top + 1e-6):
        what = "left, top, width and height as shares of it, 0 to 1" if "." in text else f"of {width}x{height}"
        raise UsageError(f"the region {text} leaves the picture ({what}), or has no size")
    return left, top, wide, high


def region_of(box: Box, width: int, height: int, drop: int = DROP) -> Region | None:
    """The region of a box (parts of the whole) in a picture; None if it is all of the picture, or drop is 0."""
    left, top, wide, high = box
    columns, rows = -(-width // STRIDE), -(-height // STRIDE)
    first_x, first_y = int(left * width) // STRIDE, int(top * height) // STRIDE
    last_x = min(columns, math.ceil((left + wide) * width / STRIDE - 1e-6)) - 1
    last_y = min(rows, math.ceil((top + high) * height / STRIDE - 1e-6)) - 1
    last_x, last_y = max(first_x, last_x), max(first_y, last_y)
    if drop == 0 or (first_x, first_y, last_x, last_y) == (0, 0, columns - 1, rows - 1):
        return None
    return Region(first_x, first_y, last_x, last_y, drop)

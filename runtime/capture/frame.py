"""Frame: one captured picture, with its name and the time of its capture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.detail_mark import DetailMark
from edgesem.packet.event_mark import EventMark

PHOTOS = Path(__file__).parents[1] / "photos"
"""The photographs that ship with edgesem."""
MAX_SIDE = 1024
"""Larger pictures are shrunk to this, where nobody asks for a size: a thin link is no place for 12 megapixels."""
MIN_SIDE = 64


@dataclass(frozen=True)
class Frame:
    """One picture as it was captured."""

    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    name: str
    time_ms: int
    """When it was captured: Unix milliseconds, modulo 2^32."""
    event: EventMark | None = None
    """The event for which it is promised."""
    full: NDArray[np.uint8] | None = None
    """The same picture in the camera's full resolution, if that is kept."""
    detail: DetailMark | None = None
    """Which part it is of a picture; None if it is all of it."""

"""Recorded packets: some photographs that ship with edgesem, coded once, and stamped anew for each camera and frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

import edgesem
from edgesem.errors import InputError
from edgesem.files import read_picture
from edgesem.packet.packet import Packet
from runtime.capture.frame import PHOTOS
from runtime.protocol.clock import unix_ms

_WRAP_MS = 2**32


def record(count: int, size: tuple[int, int], budget_bytes: int) -> list[bytes]:
    """So many keyframes of (width, height) pixels and at most `budget_bytes`, as they stand in messages.

    InputError if edgesem's photographs are not there.
    """
    from PIL import Image

    paths = sorted(PHOTOS.glob("*.jpg"))[:count]
    if not paths:
        raise InputError(f"no photographs in {PHOTOS}: install edgesem anew")
    packets = []
    with edgesem.load() as codec:
        for path in paths:
            frame = np.asarray(Image.fromarray(read_picture(path)).resize(size))
            packets.append(codec.pack(codec.analyze(frame), budget_bytes=budget_bytes).to_bytes())
    return packets


class Stamper:
    """Stamps recorded packets: epoch, frame number and time are new, the layers are as they were."""

    def __init__(self, recorded: Sequence[bytes]) -> None:
        self._packets = [Packet.from_bytes(one) for one in recorded]

    @property
    def first(self) -> Packet:
        """The first of them."""
        return self._packets[0]

    def packet(self, which: int, *, epoch: int, frame: int, promised: bool) -> Packet:
        """Packet number `which`, modulo their count, captured now."""
        packet, now_ms = self._packets[which % len(self._packets)], unix_ms()
        side_info = replace(packet.side_info, time_high=now_ms // _WRAP_MS) if promised else packet.side_info
        return replace(
            packet, epoch=epoch, frame=frame, time_ms=now_ms % _WRAP_MS, promised=promised, side_info=side_info
        )

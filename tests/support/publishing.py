"""What the tests of the receiver send: real packets of real photographs, made once."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image

import edgesem
from edgesem.packet.keys import Identity
from edgesem.packet.packet import Packet
from edgesem.packet.seal import SALT_BYTES
from runtime.capture.frame import PHOTOS
from runtime.protocol.birth import Birth
from runtime.protocol.clock import clock_ms

DEADLINE_S = 60.0  # far more than needed, also on a small board


@lru_cache
def codec() -> edgesem.Codec:
    return edgesem.load()


@lru_cache
def photo_packet(budget_bytes: int = 1200, width: int = 160, height: int = 112) -> Packet:
    """A photograph that ships with edgesem, small, in four layers."""
    with Image.open(sorted(PHOTOS.glob("*.jpg"))[0]) as image:
        frame = np.asarray(image.convert("RGB").resize((width, height)))
    return codec().pack(codec().analyze(frame), budget_bytes=budget_bytes)


def frame(number: int, epoch: int = 1, **changes: object) -> Packet:
    """The photograph as frame `number`, captured now."""
    return replace(photo_packet(), frame=number, epoch=epoch, time_ms=clock_ms(), **changes)  # type: ignore[arg-type]


def plain(number: int = 0, epoch: int = 1, layers: int = 4, bundle_id: int = 7, **changes: object) -> Packet:
    """A packet of the right form with nothing in it that could be decoded."""
    chunks = tuple(bytes([number % 256, layer]) * (layer + 1) for layer in range(layers))
    packet = Packet(bundle_id, epoch, number, clock_ms(), 64, 48, 100, layers, 0, chunks)
    return replace(packet, **changes)  # type: ignore[arg-type]


def birth(*, sealed: bool, epoch: int = 1, time_ms: int | None = None, bundle_id: int = 7, start: int = 1) -> Birth:
    """A birth with a salt of its own."""
    return Birth(
        bundle_id=bundle_id,
        bundle_digest="d",
        width=64,
        height=48,
        fps=1.0,
        epoch=epoch,
        salt=secrets.token_bytes(SALT_BYTES),
        time_ms=time.time_ns() // 1_000_000 if time_ms is None else time_ms,
        sealed=sealed,
        program="test",
        start=start,
    )


def identity() -> Identity:
    return Identity(secrets.token_bytes(32))


def wait_for(condition, deadline_s: float = DEADLINE_S):
    """The first true value of `condition()`; fails the test if there is none in time. For what happens elsewhere."""
    until_s = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)
    return value

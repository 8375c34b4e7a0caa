"""Recorded packets: short sequences of still cameras, coded once, and stamped anew for each camera and frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import edgesem
from edgesem.codec.copying import Copying
from edgesem.codec.replenishment import Replenishment
from edgesem.errors import InputError
from edgesem.files import read_picture
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference
from runtime.capture.frame import PHOTOS
from runtime.protocol.clock import unix_ms

_WRAP_MS = 2**32
_NOISE = 2.0
"""Standard deviation of the sensor's noise, in grey levels of 255."""


class Step(NamedTuple):
    """Place of a recorded packet: in which sequence, and which of its packets, from 0 on."""

    sequence: int
    place: int


def record(count: int, size: tuple[int, int], budget_bytes: int, inter_frames: int) -> list[list[bytes]]:
    """So many sequences of (width, height) pixels: packets of at most `budget_bytes`, as they stand in messages.

    Each sequence is a keyframe and `inter_frames` inter frames, each predicted from all layers of the packet before.
    InputError if edgesem's photographs are not there.
    """
    paths = sorted(PHOTOS.glob("*.jpg"))[:count]
    if not paths:
        raise InputError(f"no photographs in {PHOTOS}: install edgesem anew")
    photos = [read_picture(path) for path in paths]
    with edgesem.load() as codec:
        sequences = []
        for number, photo in enumerate(photos):
            known, packets, copying, scene = None, list[Packet](), Copying(), Replenishment(codec.analyze)
            for frame in _frames(photo, photos[number - 1], size, 1 + inter_frames):
                latent = scene.analyze(frame)
                copying.look(latent)
                options = edgesem.PackOptions(copying=copying)
                if known is not None:
                    name = Reference(len(packets) - 1, len(packets[-1].chunks))
                    side_info = edgesem.SideInformation(reference=name)
                    options = edgesem.PackOptions(side_info=side_info, reference=known, copying=copying)
                packet, known = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=options)
                packets.append(packet)
            sequences.append([one.to_bytes() for one in packets])
    return sequences


def _frames(
    photo: NDArray[np.uint8], passer: NDArray[np.uint8], size: tuple[int, int], count: int
) -> Iterator[NDArray[np.uint8]]:
    """What a still camera sees: a photograph, through which a small other one passes, and noise."""
    from PIL import Image

    width, height = size
    still = np.asarray(Image.fromarray(photo).resize(size), np.float64)
    small = np.asarray(Image.fromarray(passer).resize((width // 4, height // 4)))
    noise = np.random.default_rng(0)
    for number in range(count):
        seen = still.copy()
        top, left = height // 2, (width - small.shape[1]) * number // count
        seen[top : top + small.shape[0], left : left + small.shape[1]] = small
        yield np.clip(np.rint(seen + noise.normal(0, _NOISE, seen.shape)), 0, 255).astype(np.uint8)


class Stamper:
    """Stamps recorded packets: epoch, frame number and time are new, the layers are as they were."""

    def __init__(self, recorded: Sequence[Sequence[bytes]]) -> None:
        self._packets = [[Packet.from_bytes(one) for one in sequence] for sequence in recorded]

    @property
    def first(self) -> Packet:
        """The first of them."""
        return self._packets[0][0]

    def keyframe(self, which: int) -> Step:
        """The keyframe of sequence number `which`, modulo their count."""
        return Step(which % len(self._packets), 0)

    def following(self, step: Step) -> Step | None:
        """The inter frame that is predicted from a packet; None after the last one."""
        place = step.place + 1
        return Step(step.sequence, place) if place < len(self._packets[step.sequence]) else None

    def packet(
        self, step: Step, *, epoch: int, frame: int, promised: bool = False, reference: Reference | None = None
    ) -> Packet:
        """A recorded packet, captured now. `reference` names the frame as which the packet before was sent; None for a
        keyframe."""
        packet, now_ms = self._packets[step.sequence][step.place], unix_ms()
        side_info = packet.side_info
        if promised:
            side_info = replace(side_info, time_high=now_ms // _WRAP_MS)
        if reference is not None and side_info.reference is not None:
            side_info = replace(side_info, reference=replace(side_info.reference, frame=reference.frame))
        return replace(
            packet, epoch=epoch, frame=frame, time_ms=now_ms % _WRAP_MS, promised=promised, side_info=side_info
        )

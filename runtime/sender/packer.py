"""Packer of one stream: makes numbered packets of frames, each within its byte budget."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.copying import Copying
from edgesem.codec.options import PackOptions
from edgesem.codec.region import DROP, region_of
from edgesem.codec.replenishment import Replenishment
from edgesem.codec.running_mean import RunningMean
from edgesem.errors import BudgetError, EdgesemError
from edgesem.packet.capture_time import nearest_ms
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation
from runtime.capture.frame import MIN_SIDE, Frame
from runtime.congestion.interface import LinkControl
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.clock import unix_ms
from runtime.sender.detail import fit_bytes
from runtime.sender.events import FramePacked, PictureResized, SceneCut, SenderEvent
from runtime.sender.picture_size import PictureSize, shrink
from runtime.sender.publisher import Publisher
from runtime.sender.references import References

log = logging.getLogger(__name__)

_EASY_Q, _FALL = 16, 0.95

_LAST_FRAME = 2**32 - 1
_TIME_ITEM_BYTES = 7  # of the whole capture time, with the length of all side information

WHOLE = (0.0, 0.0, 1.0, 1.0)


class Encoder(Protocol):
    """What a sender needs of a codec; `edgesem.Codec` is one."""

    def analyze(self, frame: NDArray[np.uint8]) -> Any:
        """The latent of a picture."""

    def pack(self, latent: Any, *, budget_bytes: int, options: PackOptions) -> Packet:
        """The packet of a latent in at most `budget_bytes`; BudgetError if not even the coarsest quality fits."""


class Packer:
    """Packer of one start of a sender: analyzes and packs frames, and remembers what one cost for the next.

    After the last of 2^32 frame numbers `next_epoch` is called, and numbers begin again in the epoch that it gives.
    Not thread-safe: for the encoding thread, but `roi`, `region` and `drop` may be set by others. `clock` gives
    monotonic seconds. `looks_whole`: the encoder network sees all of each frame, for who judges how new it is.
    """

    def __init__(
        self,
        *,
        codec: Encoder,
        control: LinkControl,
        publisher: Publisher,
        epoch: int,
        min_quality: float,
        next_epoch: Callable[[], int],
        on_event: Callable[[SenderEvent], None],
        references: References | None = None,
        denoise: bool = False,
        looks_whole: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch, self.frame = epoch, 0
        """Number of the next frame, and of the start that it belongs to."""
        self.roi = WHOLE
        """The part of each picture that is coded: left, top, width, height as shares."""
        self.region = WHOLE
        """The part of what is coded that is finer than the rest."""
        self.drop = DROP
        """How many quality levels (of 255) the rest is coarser."""
        self.analyze_s = self.pack_s = 0.0
        """What the latest frame took."""
        self.budget_bytes = 0
        """What the latest frame was given."""
        self._codec = codec
        self._control = control
        self._publisher = publisher
        self._next_epoch = next_epoch
        self._least_bytes = control.min_bytes
        self._min_q = round(min_quality * 255)
        self._on_event = on_event
        self._references, self._copying = references, Copying()
        self._limited_log = RateLimitedLog(log)
        self._mean = RunningMean() if denoise and references is not None else None
        in_parts = references is not None and not denoise and not looks_whole
        self._scene = Replenishment(codec.analyze) if in_parts else None
        self._clock = clock
        self.picture_size = PictureSize()
        """How much of a picture's sides is coded."""
        self._previous: dict[bool, Packet] = {}
        """The last packets with and without a reference: where to begin with the next of its kind."""

    @property
    def denoises(self) -> bool:
        """Whether ordinary frames are averaged where nothing changes."""
        return self._mean is not None

    @property
    def owes_keyframe(self) -> bool:
        """Whether a keyframe was asked for that may go beside the frames that are due. Under the publisher's lock."""
        return self._references is not None and self._references.owes(self._clock())

    def analyze(self, frame: Frame, *, promised_bytes: int = 0) -> Any:
        """The latent of the part of a frame that is asked for, shrunk if there are too few bytes for all of it.

        Of an ordinary frame the encoder network may see only what has changed (`Replenishment`).
        None, and a log line, for a frame that has none. What is promised, in at most so many bytes, takes its time, and
        is not shrunk; but a detail is, where there is more of it than its bytes can show.
        """
        started_s = self._clock()
        promised = promised_bytes > 0
        picture = _crop(frame.image, self.roi) if frame.detail is None else fit_bytes(frame.image, promised_bytes)
        try:
            if promised or self._scene is None:
                latent = self._codec.analyze(picture if promised else shrink(picture, self.picture_size.share))
            else:
                latent = self._scene.analyze(shrink(picture, self.picture_size.share))
        except EdgesemError as error:
            log.error("frame %s cannot be encoded: %s", frame.name, error)
            return None
        self.analyze_s = self._clock() - started_s
        return latent

    def pack(
        self,
        latent: Any,
        budget_bytes: int,
        frame: Frame,
        *,
        smallest: bool = False,
        thumbnail: bool = False,
        embedding: bytes = b"",
    ) -> Packet | None:
        """The packet whose messages, with all that MQTT adds, fit the budget; `embedding` travels as side
        information.

        None if it would be worse than the quality asked for, unless `smallest`, for a frame to be promised: then it is
        what comes nearest, and has its whole capture time. So is a `thumbnail`, without the time; nothing is learned of
        it for the frames that follow.
        """
        ordinary = not (smallest or thumbnail)
        started_s = self._clock()
        budget_bytes = max(budget_bytes, 1)
        around_bytes = self._publisher.around_frame_bytes(budget_bytes)
        if self.frame > _LAST_FRAME:
            self.epoch, self.frame = self._next_epoch(), 0
        options = PackOptions(epoch=self.epoch, frame=self.frame, time_ms=frame.time_ms)
        finer = self.region if frame.detail is None else WHOLE
        region = None if finer == WHOLE else region_of(finer, latent.width, latent.height, self.drop)
        if embedding or region is not None:
            options = replace(options, side_info=SideInformation(embedding=embedding, region=region))
        if smallest:
            marks = (mark for mark in (frame.event, frame.detail) if mark is not None)
            around_bytes += _TIME_ITEM_BYTES + sum(2 + mark.size_bytes for mark in marks)
        known: tuple[Any, Any] | None = None
        try:
            left_bytes = max(1, budget_bytes - around_bytes)
            if frame.detail is None:
                packet, known = self._code(latent, left_bytes, options, refer=not smallest)
            else:  # it has nothing to do with the frames before and after it
                packet = self._codec.pack(latent, budget_bytes=left_bytes, options=options)
        except BudgetError as error:
            if ordinary:
                if not self._resize(frame, None):
                    if budget_bytes < self._control.min_bytes:  # more was asked for before, and may not be had
                        self._limited_log.warn(
                            "no picture fits into %d bytes, it needs %d: raise the limit of a frame, or send smaller "
                            "pictures",
                            budget_bytes,
                            error.smallest_bytes + around_bytes,
                        )
                    self._control.min_bytes = max(self._control.min_bytes, error.smallest_bytes + around_bytes)
                return None
            packet = self._codec.pack(latent, budget_bytes=error.smallest_bytes, options=options)
        if smallest:
            time_high = nearest_ms(frame.time_ms, unix_ms()) >> 32
            side_info = replace(packet.side_info, time_high=time_high, event=frame.event, detail=frame.detail)
            packet = replace(packet, promised=True, side_info=side_info)
        if packet.q < self._min_q and ordinary:
            self._control.min_bytes = max(self._control.min_bytes, round(1.1 * budget_bytes))
            return None
        if budget_bytes <= self._control.min_bytes and packet.q > self._min_q + _EASY_Q and ordinary:
            # The scene has become simpler: let the least that a frame needs fall until it is that again.
            self._control.min_bytes = max(self._least_bytes, round(_FALL * self._control.min_bytes))
        self.pack_s = self._clock() - started_s
        self.budget_bytes = budget_bytes
        self.frame += 1
        if ordinary:
            self._resize(frame, packet.q)
        if self._references is not None and known is not None and not smallest:  # what is promised nobody holds
            with self._publisher.lock:
                self._references.made(packet, *known, self._clock())
        self._publisher.counters.frames += 1
        self._publisher.counters.encode_s += self.analyze_s + self.pack_s
        capacity_bps = self._control.state().get("capacity_bps")
        self._on_event(
            FramePacked(
                frame=packet.frame,
                name=frame.name,
                budget_bytes=budget_bytes,
                capacity_bps=None if capacity_bps is None else round(capacity_bps),
                layers_packed=len(packet.chunks),
                size_bytes=packet.size_bytes,
                q=packet.q,
                refers_to=None if packet.side_info.reference is None else packet.side_info.reference.frame,
                analyze_s=round(self.analyze_s, 4),
                pack_s=round(self.pack_s, 4),
            )
        )
        return packet

    def _resize(self, frame: Frame, q: int | None) -> bool:
        """Choose the size of the next pictures by the quality level of this one, None if it did not fit at all.

        Whether it changes. Where frames below some quality are to be skipped, it does not: a small one is no better.
        """
        if self._min_q:
            return False
        height, width = _crop(frame.image, self.roi).shape[:2]
        size, before = self.picture_size, self.picture_size.share
        changes = size.did_not_fit(width, height) if q is None else size.coded(q, width, height)
        if changes:
            percent = round(100 * size.share)
            why = "fewer bytes than all of it needs" if size.share < before else "there are bytes for more"
            log.info("pictures are sent at %d %% of their sides: %s", percent, why)
            self._control.min_bytes = self._least_bytes  # more was learned of another size
            self._on_event(PictureResized(percent))
        return changes

    def _code(
        self, latent: Any, budget_bytes: int, options: PackOptions, *, refer: bool
    ) -> tuple[Packet, tuple[Any, Any] | None]:
        """The packet, and where packets may refer to others what is decoded from it, and what it refers to."""
        if self._references is None:
            return self._codec.pack(latent, budget_bytes=budget_bytes, options=options), None
        codec: Any = self._codec
        key = self._previous.get(False)
        if refer:
            self._copying.look(latent)
            if self._mean is not None:
                latent = self._mean.add(latent, self._copying.noise)
        with self._publisher.lock:
            known = self._references.choose(self._clock()) if refer else None
        reference: Any = None if known is None else known.latent()
        if known is not None and reference.values.shape == latent.values.shape:
            referring = replace(
                options,
                side_info=replace(options.side_info, reference=known.name),
                reference=reference,
                copying=self._copying,
                previous=self._previous.get(True, key),
            )
            packet, decoded = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=referring)
            if not codec.is_cut(latent, packet, key):
                self._previous[True] = packet
                return packet, (decoded, reference)
            self._on_event(SceneCut(packet.frame))
        packet, decoded = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=replace(options, previous=key))
        self._previous[False] = packet
        return packet, (decoded, None)


def _crop(image: NDArray[np.uint8], roi: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The part of a picture, at least 64 pixels a side where it has them."""
    if roi == WHOLE:
        return image
    left, top, width, height = roi
    rows, columns = image.shape[:2]
    down, right = max(MIN_SIDE, round(height * rows)), max(MIN_SIDE, round(width * columns))
    y, x = max(0, min(round(top * rows), rows - down)), max(0, min(round(left * columns), columns - right))
    return np.ascontiguousarray(image[y : y + down, x : x + right])

"""Sender of AV1 that follows the link: what a user would send if edgesem was not there.

    newest frame -> (the control has room) -> SVT-AV1 at what the link bears -> fragments -> MQTT

It has the control, the estimate of the capacity and the fragments of edgesem's sender. What it lacks is what a video
codec lacks: an encoder that was opened keeps its rate, so another rate is a new encoder and a keyframe; and a frame
that was begun has to come through whole, because the next one needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.low_delay_video import LowDelayEncoder, svtav1_options
from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS
from runtime.congestion.control import Control

LIBRARY = "libsvtav1"
_FRAGMENT_S = 0.08  # as edgesem's layers above the base go together
_LEAST_FRAGMENT_BYTES = 500
_FINEST_CRF, _COARSEST_CRF, _CRF_STEP = 3, 63, 6
_KEY_GROWTH = 1.5  # of a keyframe with one step of _CRF_STEP
_PATIENCE, _MOST_PATIENCE = 4, 64  # frames until a finer quality is tried


@dataclass(frozen=True)
class Av1Options:
    """How a sender uses SVT-AV1. The defaults were searched on the traces (docs/results/link.md)."""

    preset: int = 10
    rtc: bool = True
    """SVT-AV1's mode for real time."""
    constant_quality: bool = False
    """By CRF, as fine as the link bears; else by CBR."""
    margin: float = 0.8
    """Share of the capacity (CBR), and of a frame's budget (CRF), that it aims at."""
    large_margin: float = 0.1
    """CBR: the same where frames have more than `large_bytes` with it: quality grows ever less with size, and a picture
    is as old as its bytes took to come."""
    large_bytes: int = 1500
    rise: float = 4.0
    """CBR: a new encoder once the capacity is so many times what the present one was opened for."""
    fall: float = 0.4
    """CBR: the same if it is less than this share."""
    again: float = 3.0
    """CBR: a frame of more than so many budgets is encoded again, as a keyframe that fits, if that is smaller."""


class RateFollower(Protocol):
    """How an encoder follows the link."""

    keyframes: int
    """How many encoders were opened: each begins with a keyframe."""

    def encode(
        self, frame: NDArray[np.uint8], budget_bytes: int, capacity_bps: float | None, *, key: bool = False
    ) -> tuple[bytes, bool]:
        """The packet of a frame, and whether it is a keyframe: the receiver begins with a new decoder.

        key: it has to be one.
        """

    def close(self) -> None:
        """End the stream."""


class ConstantRate:
    """CBR: one encoder, opened anew at another rate when the capacity has moved."""

    def __init__(self, options: Av1Options, rate_hz: float) -> None:
        self.keyframes = 0
        self._options, self._rate_hz = options, rate_hz
        self._encoder: LowDelayEncoder | None = None
        self._opened_bps = 0.0

    def encode(
        self, frame: NDArray[np.uint8], budget_bytes: int, capacity_bps: float | None, *, key: bool = False
    ) -> tuple[bytes, bool]:
        """As of RateFollower."""
        options = self._options
        most_bps = 8 * budget_bytes * self._rate_hz
        bears_bps = min(most_bps, capacity_bps or most_bps)
        small_bps = min(options.margin * bears_bps, 8 * options.large_bytes * self._rate_hz)
        target_bps = max(small_bps, options.large_margin * bears_bps)
        new = key or self._encoder is None or not options.fall <= target_bps / self._opened_bps <= options.rise
        encoder = self._opened(frame, target_bps) if new or self._encoder is None else self._encoder
        data = encoder.encode(frame)
        if len(data) > options.again * budget_bytes:
            smaller_bps = target_bps * budget_bytes / len(data)
            other = self._opened(frame, smaller_bps)
            smaller = other.encode(frame)
            if len(smaller) < len(data):
                encoder, other, data, new, target_bps = other, encoder, smaller, True, smaller_bps
            other.close()
        if self._encoder is not None and self._encoder is not encoder:
            self._encoder.close()
        self._encoder = encoder
        if new:
            self._opened_bps = target_bps
            self.keyframes += 1
        return data, new

    def close(self) -> None:
        """As of RateFollower."""
        if self._encoder is not None:
            self._encoder.close()

    def _opened(self, frame: NDArray[np.uint8], bit_rate_bps: float) -> LowDelayEncoder:
        flat = ":hierarchical-levels=0" if self._options.rtc else ""  # else each fourth frame has most of the bytes
        return _open(self._options, frame, self._rate_hz, f":rc=2{flat}", bit_rate_bps=max(1000, round(bit_rate_bps)))


class ConstantQuality:
    """CRF: a frame that is too large is encoded again, coarser; where frames are small, a finer keyframe is tried."""

    def __init__(self, options: Av1Options, rate_hz: float) -> None:
        self.keyframes = 0
        self._options, self._rate_hz = options, rate_hz
        self._encoder: LowDelayEncoder | None = None
        self._crf, self._key_bytes = _COARSEST_CRF, 0
        self._frames, self._patience = 0, _PATIENCE

    def encode(
        self, frame: NDArray[np.uint8], budget_bytes: int, capacity_bps: float | None, *, key: bool = False
    ) -> tuple[bytes, bool]:
        """As of RateFollower."""
        fits_bytes = max(1, round(self._options.margin * budget_bytes))
        if key or self._encoder is None:
            return self._fitting_key(frame, _FINEST_CRF if self._encoder is None else self._crf, fits_bytes), True
        self._frames += 1
        finer = self._crf - _CRF_STEP
        if self._frames >= self._patience and finer >= _FINEST_CRF:
            if self._key_bytes * _KEY_GROWTH <= fits_bytes:
                made = self._key(frame, finer, fits_bytes)
                if made is not None:
                    self._patience = _PATIENCE
                    return made, True
                self._patience = min(_MOST_PATIENCE, 2 * self._patience)
            self._frames = 0
        data = self._encoder.encode(frame)
        if len(data) <= fits_bytes:
            return data, False
        made = self._key(frame, min(_COARSEST_CRF, self._crf + _CRF_STEP), len(data) - 1)
        return (data, False) if made is None else (made, True)

    def close(self) -> None:
        """As of RateFollower."""
        if self._encoder is not None:
            self._encoder.close()

    def _fitting_key(self, frame: NDArray[np.uint8], finest_crf: int, most_bytes: int) -> bytes:
        """The finest keyframe that fits; the coarsest if none does."""
        for crf in range(finest_crf, _COARSEST_CRF + 1, _CRF_STEP):
            if (made := self._key(frame, crf, most_bytes)) is not None:
                return made
        made = self._key(frame, _COARSEST_CRF, 1 << 30)
        assert made is not None
        return made

    def _key(self, frame: NDArray[np.uint8], crf: int, most_bytes: int) -> bytes | None:
        """A keyframe of at most so many bytes, and its encoder in place of the present one; None if it has more."""
        encoder = _open(self._options, frame, self._rate_hz, "", crf=str(crf))
        data = encoder.encode(frame)
        if len(data) > most_bytes:
            encoder.close()
            return None
        if self._encoder is not None:
            self._encoder.close()
        self._encoder, self._crf, self._key_bytes, self._frames = encoder, crf, len(data), 0
        self.keyframes += 1
        return data


def _open(
    options: Av1Options, frame: NDArray[np.uint8], rate_hz: float, more: str, *, bit_rate_bps: int = 0, **by: str
) -> LowDelayEncoder:
    height, width = frame.shape[:2]
    parameters = svtav1_options(options.preset, rtc=options.rtc, more=more)
    return LowDelayEncoder(
        LIBRARY, width=width, height=height, rate_hz=rate_hz, options={**parameters, **by}, bit_rate_bps=bit_rate_bps
    )


class Av1Sender:
    """Sender of the newest frame, as often as `control` has room. Not thread-safe; times are given by the caller.

    `publish(message, size_bytes, confirm)` hands a fragment to the link, which calls `confirm(now_s)` when the broker
    has it; `around_bytes` is what MQTT adds to each.
    """

    def __init__(
        self,
        follower: RateFollower,
        control: Control,
        *,
        around_bytes: int,
        publish: Callable[[Fragment, int, Callable[[float], None]], None],
    ) -> None:
        self._follower, self._control, self._around_bytes, self._publish = follower, control, around_bytes, publish
        self._waiting: tuple[int, NDArray[np.uint8]] | None = None
        self._newest: tuple[int, NDArray[np.uint8]] | None = None
        self._key_asked = False
        self._sent = self._key_number = 0

    def offer(self, tick: int, frame: NDArray[np.uint8]) -> None:
        """The camera's newest frame; one that still waits for room is dropped."""
        self._waiting = self._newest = tick, frame

    def ask_for_key(self, number: int | None) -> None:
        """A receiver has missed what came before the fragment of this number, or all (None): the newest frame goes
        again, as a keyframe, unless one has been sent since then."""
        if number is None or number > self._key_number:
            self._key_asked, self._waiting = True, self._newest

    def step(self, now_s: float) -> bool:
        """Encode and send the frame that waits, if there is room for it; whether there was."""
        if self._waiting is None:
            return False
        budget_bytes = self._control.budget_bytes(now_s)
        if budget_bytes is None:
            return False
        (tick, frame), self._waiting = self._waiting, None
        capacity_bps = self._control.state()["capacity_bps"]
        around_bytes = self._fragments(budget_bytes, capacity_bps) * (HEADER_BYTES + self._around_bytes)
        left_bytes = max(1, budget_bytes - around_bytes)
        data, is_key = self._follower.encode(frame, left_bytes, capacity_bps, key=self._key_asked)
        if is_key:
            self._key_asked, self._key_number = False, self._sent
        count = self._fragments(len(data), capacity_bps)
        ends = [round(len(data) * part / count) for part in range(count + 1)]
        for part in range(count):
            piece = data[ends[part] : ends[part + 1]]
            self._send(Fragment(tick, is_key, self._sent, part, count, piece), now_s)
            self._sent += 1
        return True

    def _fragments(self, size_bytes: int, capacity_bps: float | None) -> int:
        """In how many messages a frame goes: each tells of the link when it is confirmed."""
        most_bytes = max(_LEAST_FRAGMENT_BYTES, _FRAGMENT_S * (capacity_bps or 0.0) / 8)
        return int(max(1, min(MAX_LAYERS, -(-size_bytes // most_bytes))))

    def _send(self, fragment: Fragment, now_s: float) -> None:
        size_bytes = self._around_bytes + len(fragment.data) + HEADER_BYTES
        self._control.sent(now_s, size_bytes=size_bytes, base=fragment.part == 0)

        def confirm(at_s: float) -> None:
            self._control.acked(at_s, size_bytes=size_bytes, sent_s=now_s)

        self._publish(fragment, size_bytes, confirm)


@dataclass(frozen=True)
class Fragment:
    """One message: a part of a frame's packet."""

    tick: int
    """Which of the camera's frames."""
    is_key: bool
    number: int
    """Of all fragments that the sender has sent."""
    part: int
    """Of those of its frame."""
    parts: int
    data: bytes


def follower_of(options: Av1Options, rate_hz: float) -> RateFollower:
    """The way to follow the link that the options name."""
    made: Any = ConstantQuality if options.constant_quality else ConstantRate
    return made(options, rate_hz)  # type: ignore[no-any-return]

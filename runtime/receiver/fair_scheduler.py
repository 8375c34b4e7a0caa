"""Whose frame is decoded next: that of the device which has had the least, so that none can starve the others."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Collection

from runtime.receiver.stream import Stream


def _yielding() -> Callable[[], object]:
    if not hasattr(os, "sched_yield"):
        return lambda: None
    # Before 3.12, os.sched_yield keeps the interpreter's lock, so that no thread of ours could go first.
    return os.sched_yield if sys.version_info >= (3, 12) else ctypes.CDLL(None).sched_yield


yield_processor: Callable[[], object] = _yielding()
"""Lets another thread go first, if one waits."""


class FairScheduler:
    """Shares the decoders among devices. A device that sends more, or larger frames, than its share waits for itself.

    No device has all decoders at once. Call it under the lock of the streams.
    """

    def __init__(self, decoders: int) -> None:
        self._per_device = max(1, decoders - 1)
        self._used_s: dict[tuple[str, str], float] = {}
        """Decoding that each device has had."""
        self._clock_s = 0.0
        """What the device served last has had, at least: where a device that was silent begins."""

    def next(self, streams: Collection[Stream]) -> Stream | None:
        """The stream whose turn it is, of those with a frame that waits; it is busy from here on."""
        ready = [stream for stream in streams if stream.inbox.waiting and self._may(stream, streams)]
        if not ready:
            return None
        stream = min(ready, key=lambda one: (self._had_s(one), one.decode_s))
        stream.busy = True
        had_s = self._had_s(stream)
        self._used_s[stream.device] = max(had_s, self._clock_s)  # who was silent has saved up nothing
        self._clock_s = max(had_s, self._clock_s)
        return stream

    def done(self, stream: Stream, decode_s: float) -> None:
        """A decoder was busy with a frame of this stream for so long."""
        stream.busy = False
        stream.decode_s += decode_s
        self._used_s[stream.device] = self._used_s.get(stream.device, self._clock_s) + decode_s

    def forget(self, streams: Collection[Stream]) -> None:
        """Keep no account of devices other than those of these streams."""
        devices = {stream.device for stream in streams}
        self._used_s = {device: used_s for device, used_s in self._used_s.items() if device in devices}

    def _may(self, stream: Stream, streams: Collection[Stream]) -> bool:
        busy = sum(one.busy and one.device == stream.device for one in streams)
        return not stream.busy and busy < self._per_device

    def _had_s(self, stream: Stream) -> float:
        return self._used_s.get(stream.device, 0.0)

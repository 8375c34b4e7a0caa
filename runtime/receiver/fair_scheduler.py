"""Fair scheduler of the decoders: start-time fair queueing over devices, with decoder seconds as the cost.

The device that has used the least decoder time is served next (Goyal, Vin and Cheng, "Start-time Fair Queuing", 1996:
a device that was idle starts at the virtual time of the device in service, so that it has saved up nothing).
"""

from __future__ import annotations

from collections.abc import Collection

from runtime.receiver.stream import Stream


class FairScheduler:
    """Shares the decoders among devices: one that sends more, or larger frames, than its share delays only itself.

    No device has all decoders at once, where there are two or more. Not thread-safe: use it under `Streams.lock`.
    """

    def __init__(self, decoders: int) -> None:
        self._per_device = max(1, decoders - 1)
        self._used_s: dict[tuple[str, str], float] = {}
        """Finish tag of each device: decoder seconds used, counted from the virtual time at which it began."""
        self._virtual_s = 0.0
        """Virtual time: the largest start tag served so far."""

    def has_ready(self, streams: Collection[Stream]) -> bool:
        """Whether a frame waits that a free decoder could have now."""
        return any(stream.inbox.waiting and self._may(stream, streams) for stream in streams)

    def next(self, streams: Collection[Stream]) -> Stream | None:
        """Choose among the streams with a frame that waits, and mark the stream as busy; None if there is none.

        Streams of one device are ordered by their own decoder time.
        """
        ready = [stream for stream in streams if stream.inbox.waiting and self._may(stream, streams)]
        if not ready:
            return None
        stream = min(ready, key=lambda one: (self._used(one), one.decode_s))
        stream.busy = True
        self._virtual_s = self._used_s[stream.device] = max(self._used(stream), self._virtual_s)
        return stream

    def done(self, stream: Stream, decode_s: float) -> None:
        """A decoder has worked `decode_s` seconds on a frame of this stream, and is free."""
        stream.busy = False
        stream.decode_s += decode_s
        self._used_s[stream.device] = self._used_s.get(stream.device, self._virtual_s) + decode_s

    def forget_others(self, streams: Collection[Stream]) -> None:
        """Drop the accounts of all devices but those of these streams."""
        devices = {stream.device for stream in streams}
        self._used_s = {device: used_s for device, used_s in self._used_s.items() if device in devices}

    def _may(self, stream: Stream, streams: Collection[Stream]) -> bool:
        busy = sum(one.busy and one.device == stream.device for one in streams)
        return not stream.busy and busy < self._per_device

    def _used(self, stream: Stream) -> float:
        return self._used_s.get(stream.device, 0.0)

"""Skipped pictures: frames that were decoded without their picture, which may be asked for later."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesem.packet.packet import Packet
from runtime.receiver.held_latent import HeldLatent

if TYPE_CHECKING:
    from runtime.receiver.stream import Stream

_MOST_FAILURES = 3  # of drawing one picture


@dataclass(eq=False)
class SkippedPicture:
    """A frame that was decoded without its picture, because nobody needed it. Use it under `Streams.lock`."""

    packet: Packet
    reference: HeldLatent | None
    """What an inter frame refers to: it may have been forgotten elsewhere when the picture is asked for."""
    asked: bool = False
    """Whether it waits for a decoder, or one draws it."""
    failures: int = 0
    """How often a decoder could not draw it."""


class SkippedPictures:
    """The skipped picture of each stream's newest frame. Thread-safe.

    `changed` has the lock of the streams, and is notified of pictures that wait for a decoder.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed

    def note(self, stream: Stream, skipped: SkippedPicture | None) -> None:
        """Note the newest frame of a stream as one that was decoded without its picture; None: it has one."""
        with self._changed:
            stream.skipped = skipped

    def draw(self, stream: Stream) -> bool:
        """Queue the picture of a stream's newest frame if it was skipped; whether it is on its way. Returns at once."""
        with self._changed:
            skipped = stream.skipped
            if skipped is None:
                return False
            if not skipped.asked:
                skipped.asked = True
                stream.inbox.queue.add_skipped(skipped)
                self._changed.notify()
            return True

    def is_newest(self, stream: Stream, frame: Packet | SkippedPicture) -> bool:
        """Whether this is still the newest frame of the stream, and has no picture."""
        with self._changed:
            skipped = stream.skipped
            return skipped is not None and frame in (skipped, skipped.packet)

    def done(self, stream: Stream, skipped: SkippedPicture, *, drawn: bool) -> None:
        """A decoder has finished with a picture. One that could not be drawn is tried again when it is asked for again,
        but not for ever."""
        with self._changed:
            skipped.asked = False
            skipped.failures += not drawn
            if stream.skipped is skipped and (drawn or skipped.failures >= _MOST_FAILURES):
                stream.skipped = None

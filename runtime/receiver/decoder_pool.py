"""Decoder pool of a receiver: threads with a decoder process each, as many as there is work for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgesem.errors import EdgesemError
from edgesem.packet.packet import Packet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.decoder_template import DecoderTemplate
from runtime.receiver.skipped_picture import SkippedPicture
from runtime.receiver.stream import Stream
from runtime.receiver.streams import Streams

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.5
_LAST_S = 3.0
"""At the end, a picture that is being decoded may take so long."""

Draw = Callable[[DecoderProcess, Stream, Packet | SkippedPicture], None]


class DecoderPool:
    """Decoder pool. Entered, it starts the first process; another whenever a frame waits and none is free.

    At most `most` processes, which decode packets of each of the `bundles`. `begin` starts the threads, which call
    `draw(decoder, stream, packet)` for each frame; what it raises is logged and costs the frame. Entering raises
    BundleError if a bundle cannot be used, LinkError if the process does not start.
    """

    def __init__(self, bundles: Sequence[Path | None], *, most: int) -> None:
        self.most = most
        self._bundles = bundles
        self._template = DecoderTemplate(bundles)
        self._first = DecoderProcess(bundles, template=self._template)
        """The process that is started first, to see that it can be."""
        self._streams: Streams
        self._draw: Draw
        self._lock = threading.Lock()
        self._decoders: list[DecoderProcess] = [self._first]
        self._threads: list[threading.Thread] = []
        self._beats_s: dict[int, float] = {}
        """When each thread was last seen to come round."""
        self._idle = 0
        self._stop = threading.Event()

    def __enter__(self) -> DecoderPool:
        self._template.__enter__()
        try:
            self._first.__enter__()
        except BaseException:
            self._template.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all threads and processes, within seconds whatever they do."""
        with self._lock:  # one that is being started is among the threads then
            self._stop.set()
        deadline_s = time.monotonic() + _LAST_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        for decoder in self._decoders:
            decoder.kill()
        deadline_s = time.monotonic() + _LAST_S
        for thread in self._threads:  # one that is held up in a callback is left behind: it is a daemon
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._first.__exit__()
        self._template.__exit__()

    def begin(self, streams: Streams, draw: Draw) -> None:
        """Start the first thread."""
        self._streams, self._draw = streams, draw
        with self._lock:
            self._start(self._first)
        streams.on_ready = self._grow

    @property
    def size(self) -> int:
        """Number of decoder processes."""
        return len(self._threads)

    @property
    def alive(self) -> bool:
        """Whether no thread was ended by a defect."""
        return all(thread.is_alive() for thread in self._threads) or self._stop.is_set()

    @property
    def stalled_s(self) -> float:
        """For how many seconds the slowest thread was not seen to come round."""
        now_s = time.monotonic()
        return max((now_s - beat_s for beat_s in list(self._beats_s.values())), default=0.0)

    def _start(self, decoder: DecoderProcess) -> None:
        number = len(self._threads)
        self._beats_s[number] = time.monotonic()
        thread = threading.Thread(target=self._work, args=(decoder, number), name=f"decoder.{number}", daemon=True)
        thread.start()
        self._threads.append(thread)  # not before: one that has yet to start would look as if it had ended

    def _grow(self) -> None:
        """Start another decoder, if a frame waits for one, none is free, and there may be more."""
        if self._idle or len(self._threads) >= self.most:  # mostly
            return
        with self._lock:
            if self._idle or len(self._threads) >= self.most or self._stop.is_set() or not self._streams.has_ready():
                return
            decoder = DecoderProcess(self._bundles, template=self._template)
            self._decoders.append(decoder)
            self._start(decoder)
        log.info("%d decoders", len(self._threads))

    def _work(self, decoder: DecoderProcess, number: int) -> None:
        """Decode frames until the stop; on a thread of its own. A process starts with its first frame."""
        while not self._stop.is_set():
            self._beats_s[number] = time.monotonic()
            try:
                self._streams.refill()
                with self._lock:
                    self._idle += 1
                try:
                    job = self._streams.next_frame(_LOOK_UP_S)
                finally:
                    with self._lock:
                        self._idle -= 1
                if job is not None:
                    self._grow()
                    self._draw(decoder, *job)
            except EdgesemError as error:
                log.warning("decoder %d: %s", number, error)
                self._stop.wait(_LOOK_UP_S)
            except Exception:  # a defect of ours: the other streams go on
                log.exception("decoder %d", number)
                self._stop.wait(_LOOK_UP_S)
        decoder.__exit__()

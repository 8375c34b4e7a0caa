"""A bench run in simulated time: the real control, packets and figures, on a model of all that lies between.

Of TCP it knows segments and their heads, of the broker that it takes 2 ms: no slow start, no loss, no busy processor.
A run of two minutes takes half a second and nobody's root, which is what constants are searched with.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from edgesem.errors import UsageError
from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS, Packet
from edgesem.trace import Trace
from runtime.bench.link.baselines import WITHOUT_LAYERS, make_control
from runtime.bench.link.bench import Options, Outcome
from runtime.bench.link.clip import Clip, ClipCodec, placeholder
from runtime.bench.link.figures import Run, figures, series
from runtime.bench.link.queueing import Line
from runtime.capture.frame import Frame
from runtime.sender.counters import Counters
from runtime.sender.packer import Packer
from runtime.sender.packetizer import after, next_part

_SEGMENT_BYTES, _HEAD_BYTES = 1448, 52
_TOPIC_BYTES, _AROUND_BYTES = 35, 43  # of a message, besides its packet
_BROKER_S = 0.002
_TAIL_S = 0.3
_UNLIMITED_BYTES = 1 << 30  # the window keeps the queue short, and TCP would send again what it drops


def run_model(sender: str, *, clip: Clip, trace: Trace, options: Options) -> Outcome:
    """The figures of one sender. UsageError for loss and promised frames, which the model does not have."""
    if options.loss or options.promise_every:
        raise UsageError("--model knows neither --loss nor --promise-every: leave them out, or leave out --model")
    model = _Model(sender, clip, trace, options)
    for ms in range(round((options.seconds + _TAIL_S) * 1000)):
        model.step(ms / 1000)
    run = Run(
        clip=clip,
        trace=trace,
        offset_s=options.offset_s,
        start_s=0.0,
        fps=options.fps,
        seconds=options.seconds,
        near={
            "begin_s": 0.0,
            "told": model.told,
            "captured_s": model.captured_s,
            "state": model.state,
            "waiting": 0,
        },
        far={"came": model.came, "promised": []},
        whole_only=sender in WITHOUT_LAYERS,
    )
    return Outcome(figures(run), series(run))


@dataclass(frozen=True)
class _Message:
    packet: Packet
    size_bytes: int
    sent_s: float


class _Model:
    """Camera, sender, link and receiver; `step` lets a millisecond pass."""

    def __init__(self, sender: str, clip: Clip, trace: Trace, options: Options) -> None:
        self.told: list[dict[str, Any]] = []
        self.captured_s: list[float] = []
        self.state: list[dict[str, Any]] = []
        self.came: list[tuple[float, int, int, int, int, int, int]] = []
        self._clip, self._options = clip, options
        self._line = Line(
            trace=trace,
            start_s=0.0,
            offset_s=options.offset_s,
            delay_s=options.delay_s,
            queue_bytes=_UNLIMITED_BYTES,
        )
        self._segments: deque[tuple[int, _Message | None]] = deque()
        """What is on the line: bytes that TCP carries, and the message of which it is the last."""
        self._unacked_bytes = 0
        self._count = itertools.count()
        self._back: list[tuple[float, int, int, _Message | None]] = []
        """What comes back, and when: acknowledgements of TCP (bytes) and of the receiver (a message)."""
        self._control = make_control(
            sender,
            interval_s=1 / options.fps,
            trace=trace,
            start_s=0.0,
            offset_s=options.offset_s,
            unacked_bytes=lambda: self._unacked_bytes,
        )
        around_bytes = MAX_LAYERS * _AROUND_BYTES + (MAX_LAYERS - 1) * HEADER_BYTES
        publisher: Any = SimpleNamespace(lock=threading.RLock(), counters=Counters(), around_frame_bytes=around_bytes)
        self._packer = Packer(
            codec=ClipCodec(clip),
            control=self._control,
            publisher=publisher,
            epoch=0,
            min_quality=0.0,
            tell=lambda **fields: self.told.append(fields),
        )
        self._offered: int | None = None
        self._slot_s = -1.0
        self._rest: Packet | None = None
        self._control.connected(0.0, 2 * options.delay_s + _BROKER_S)

    def step(self, now_s: float) -> None:
        """All that happens in this millisecond."""
        for _ in self._line.take(now_s):
            self._arrived(now_s)
        while self._back and self._back[0][0] <= now_s:
            _, _, size_bytes, message = heapq.heappop(self._back)
            self._unacked_bytes -= size_bytes
            if message is not None:
                self._control.acked(now_s, size_bytes=message.size_bytes, sent_s=message.sent_s)
        if len(self.captured_s) < min(self._options.seconds, now_s + 1e-9) * self._options.fps:
            self._offered = len(self.captured_s)
            self.captured_s.append(now_s)
            self.state.append(self._control.state())
        self._encode(now_s)
        self._publish(now_s)

    def _arrived(self, now_s: float) -> None:
        size_bytes, message = self._segments.popleft()
        at_s = now_s + self._options.delay_s
        heapq.heappush(self._back, (at_s, next(self._count), size_bytes, None))
        if message is not None:
            heapq.heappush(self._back, (at_s + _BROKER_S, next(self._count), 0, message))
            packet = message.packet
            layers = packet.first_layer, len(packet.chunks)
            self.came.append((now_s, packet.frame, *layers, packet.q, packet.size_bytes, _TOPIC_BYTES))

    def _encode(self, now_s: float) -> None:
        """As `runtime.sender.frame_slot` and `runtime.sender.sender`: the newest frame, when its time has come and
        there is room."""
        if self._offered is None or now_s < self._slot_s:
            return
        budget_bytes = self._control.budget_bytes(now_s)
        if budget_bytes is None:
            return
        tick, self._offered = self._offered, None
        interval_s = self._control.interval_s
        self._slot_s = max(self._slot_s + interval_s, now_s - interval_s / 4)
        frame = Frame(placeholder(self._clip.index(tick)), str(tick), 0)
        packet = self._packer.pack(self._packer.analyze(frame), budget_bytes, frame)
        self._rest = packet or self._rest

    def _publish(self, now_s: float) -> None:
        """As `runtime.sender.publisher`: what there is room for."""
        while self._rest is not None:
            rate_bps = self._control.state().get("capacity_bps") or 0.0
            part = next_part(self._rest, rate_bps=rate_bps, around_bytes=_AROUND_BYTES, apart=False)
            size_bytes, base = part.size_bytes + _AROUND_BYTES, part.first_layer == 0
            if not self._control.room(now_s, size_bytes=size_bytes, base=base):
                return
            self._control.sent(now_s, size_bytes=size_bytes, base=base)
            self._unacked_bytes += size_bytes
            message = _Message(part, size_bytes, now_s)
            for begin in range(0, size_bytes, _SEGMENT_BYTES):
                carried_bytes = min(_SEGMENT_BYTES, size_bytes - begin)
                last = begin + carried_bytes == size_bytes
                self._segments.append((carried_bytes, message if last else None))
                self._line.put(bytes(carried_bytes + _HEAD_BYTES), now_s)
            self._rest = after(self._rest, len(part.chunks))

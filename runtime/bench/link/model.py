"""Bench run in simulated time: the real sender pipeline, stepped by a simulated clock, over a model of link and broker.

Frame slot, packer, packetizer, publisher, rate control and figures are the real ones. Of TCP the model knows segments
and their headers, of the broker that it takes 2 ms: no slow start, no loss, no busy processor. A run of two minutes
takes seconds, needs no root and gives the same figures each time: the constants of the rate control are searched so.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from edgesem.errors import UsageError
from edgesem.trace import Trace
from runtime.bench.link.baselines import WITHOUT_LAYERS, make_control
from runtime.bench.link.bench import Options, Outcome
from runtime.bench.link.clip import Clip, ClipCodec, placeholder
from runtime.bench.link.endpoints import TOPICS, arrival
from runtime.bench.link.figures import RunLog, figures, series
from runtime.bench.link.link_queue import LinkQueue
from runtime.capture.frame import Frame
from runtime.sender.pipeline import SenderPipeline

_SEGMENT_BYTES, _TCP_IP_BYTES = 1448, 52
BROKER_S = 0.002
TAIL_S = 0.3
UNLIMITED_BYTES = 1 << 30  # the control's window keeps the queue short, and TCP would send again what it drops


def run_model(sender: str, *, clip: Clip, trace: Trace, options: Options) -> Outcome:
    """The figures of one sender. UsageError for loss and promised frames, which the model does not have."""
    if options.loss or options.promise_every:
        raise UsageError("--model knows neither --loss nor --promise-every: leave them out, or leave out --model")
    model = _Model(sender, clip, trace, options)
    for ms in range(round((options.seconds + TAIL_S) * 1000)):
        model.step(ms / 1000)
    log = RunLog(
        clip=clip,
        trace=trace,
        offset_s=options.offset_s,
        start_s=0.0,
        fps=options.fps,
        seconds=options.seconds,
        sender={
            "begin_s": 0.0,
            "captured_s": model.captured_s,
            "events": model.events,
            "states": model.states,
            "undelivered": 0,
        },
        receiver={"arrivals": model.arrivals, "promised": []},
        whole_only=sender in WITHOUT_LAYERS,
    )
    return Outcome(figures(log), series(log))


class TcpModel:
    """Model of a TCP connection over a link to a broker: segments in order, and what comes back for each message."""

    def __init__(self, link: LinkQueue, delay_s: float) -> None:
        self.unacked_bytes = 0
        self._link, self._delay_s = link, delay_s
        self._segments: deque[tuple[int, Callable[[float], None] | None]] = deque()
        """Segments on the link: the bytes that each carries, and whom to tell when the message it ends has arrived."""
        self._returning: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def send(self, size_bytes: int, now_s: float, arrived: Callable[[float], None]) -> None:
        """Put a message on the link."""
        self.unacked_bytes += size_bytes
        for begin in range(0, size_bytes, _SEGMENT_BYTES):
            carried_bytes = min(_SEGMENT_BYTES, size_bytes - begin)
            last = begin + carried_bytes == size_bytes
            self._segments.append((carried_bytes, arrived if last else None))
            self._link.put(bytes(carried_bytes + _TCP_IP_BYTES), now_s)

    def call_at(self, at_s: float, call: Callable[[], None]) -> None:
        """Call something when what it stands for has come back to the sender."""
        heapq.heappush(self._returning, (at_s, next(self._count), call))

    def step(self, now_s: float) -> None:
        """Deliver all that has arrived by now at either side."""
        for _ in self._link.take(now_s):
            carried_bytes, arrived = self._segments.popleft()
            self.call_at(now_s + self._delay_s, lambda size_bytes=carried_bytes: self._acked(size_bytes))  # type: ignore[misc]
            if arrived is not None:
                arrived(now_s)
        while self._returning and self._returning[0][0] <= now_s:
            heapq.heappop(self._returning)[2]()

    def _acked(self, size_bytes: int) -> None:
        self.unacked_bytes -= size_bytes


class _Model:
    """Camera, sender, link, broker and receiver; `step` lets a millisecond pass."""

    def __init__(self, sender: str, clip: Clip, trace: Trace, options: Options) -> None:
        self.events: list[dict[str, Any]] = []
        self.captured_s: list[float] = []
        self.states: list[dict[str, Any]] = []
        self.arrivals: list[tuple[float, int, int, int, int, int, int]] = []
        self._clip, self._options = clip, options
        self._now_s = 0.0
        link = LinkQueue(
            trace=trace,
            start_s=0.0,
            offset_s=options.offset_s,
            delay_s=options.delay_s,
            queue_bytes=UNLIMITED_BYTES,
        )
        self._tcp = TcpModel(link, options.delay_s)
        self._control = make_control(
            sender,
            interval_s=1 / options.fps,
            trace=trace,
            start_s=0.0,
            offset_s=options.offset_s,
            unacked_bytes=lambda: self._tcp.unacked_bytes,
        )
        self._sender = SenderPipeline(
            codec=ClipCodec(clip),
            topics=TOPICS,
            control=self._control,
            publish=self._publish,
            on_event=lambda event: self.events.append(event.as_dict()),
            clock=lambda: self._now_s,
        )
        self._sender.connected(2 * options.delay_s + BROKER_S)

    def step(self, now_s: float) -> None:
        """All that happens in this millisecond."""
        self._now_s = now_s
        self._tcp.step(now_s)
        if len(self.captured_s) < min(self._options.seconds, now_s + 1e-9) * self._options.fps:
            tick = len(self.captured_s)
            self._sender.offer(Frame(placeholder(self._clip.index(tick)), str(tick), 0))
            self.captured_s.append(now_s)
            self.states.append(self._control.state())
        while self._sender.encode_step():
            pass
        while self._sender.publish_step():
            pass

    def _publish(self, topic: str, payload: bytes, confirm: Callable[[], None]) -> None:
        def arrived(now_s: float) -> None:
            self.arrivals.append(arrival(now_s, topic, payload))
            self._tcp.call_at(now_s + self._options.delay_s + BROKER_S, confirm)

        self._tcp.send(self._sender.publisher.format.around_bytes + len(payload), self._now_s, arrived)

"""Transfer of a demo: pictures from the real sender through a thin link and a broker to the real receiver."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgesem
from edgesem.codec.codec import Codec
from edgesem.errors import LinkError
from edgesem.packet.packet import Packet
from edgesem.provenance import Provenance
from runtime.bench.relay import Relay
from runtime.capture.frame import Frame
from runtime.demo.progress import Progress
from runtime.mqtt.loopback_broker import Broker
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.sinks import FolderSink
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.sender.events import FrameSkipped, SenderEvent
from runtime.sender.options import SenderOptions
from runtime.sender.stream_sender import StreamSender

STREAM = "home/demo/main"
_LOOK_UP_S = 0.05
_PATIENCE_S = 60.0
"""Far longer than needed: a small board may be ten times slower than what this was written on."""
_AGAIN_S = 10.0
"""A picture of which nothing was received for so long is offered again."""

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Options:
    """Options of the demo."""

    rate_bps: float
    """Rate of the thin link, in bit/s."""
    out: Path
    """Folder of the received pictures, the contact sheet and the report."""
    source: Path | None = None
    """A folder of pictures or a video; the photographs that ship with edgesem if None."""
    frames: int = 14
    """At most so many pictures."""
    interval_s: float = 1.0
    """Time from one picture to the next, at least."""
    bundle: Path | None = None
    """The bundle that ships if None."""
    broker: str | None = None
    """`mosquitto` or `amqtt`; what is installed if None."""


class Transfer:
    """Broker, thin link, receiver and sender, and the pictures that go through them. Use it as a context manager.

    For one thread. `folder` gets the received pictures, its subfolder `one-step` the redrawn ones.
    """

    def __init__(self, options: Options, frames: list[Frame], progress: Progress, show: Show, folder: Path) -> None:
        self._options, self._frames, self._progress, self._show = options, frames, progress, show
        self._sink, self._redrawn_sink = FolderSink(folder), FolderSink(folder / "one-step")
        self._events: queue.Queue[SenderEvent | ReceivedPicture] = queue.Queue()
        self._codec: Codec
        self._sender: StreamSender
        self._skipped = False
        self._redrawer = ThreadPoolExecutor(1, "redraw")
        self._redraws: dict[int, Future[tuple[NDArray[np.uint8], float, Path]]] = {}

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self._redrawer.shutdown(cancel_futures=True)

    def run(self) -> dict[str, Any]:
        """Send all pictures and wait until they are received; returns what the report says of link and ends."""
        options = self._options
        with contextlib.ExitStack() as stack:
            self.enter_phase("starting the broker")
            broker = stack.enter_context(Broker(kind=options.broker))
            relay = Relay(target=(broker.address.host, broker.address.port), rate_bps=options.rate_bps)
            stack.enter_context(relay)
            self.enter_phase("starting the receiver")
            receiver = StreamReceiver(
                broker.address,
                STREAM,
                ReceiverOptions(decoders=1, limits=Limits(backlog=len(self._frames))),
                bundle=options.bundle,
                on_picture=self._events.put,
            )
            stack.enter_context(receiver)
            if not self._wait_for(lambda: receiver.connection.connected):
                raise LinkError(f"the receiver was not connected to {broker.kind} within {_PATIENCE_S:.0f} s")
            self.enter_phase("starting the sender")
            self._codec = edgesem.load(options.bundle)
            self._sender = StreamSender(
                replace(broker.address, port=relay.port),
                STREAM,
                # Each picture is another scene: nothing is gained by inter frames.
                SenderOptions(fps=1 / options.interval_s, most_receivers=0),
                codec=self._codec,
                on_event=self._events.put,
            )
            stack.enter_context(self._sender)
            self.enter_phase("sending")
            for number in range(len(self._frames)):
                self._send(number)
                if number:
                    self._begin_redraw(number - 1)  # its last layers came before this one's first
            self.enter_phase("decoding the last pictures")
            self._wait_for(lambda: self._sender.pipeline.idle)
            receiver.streams.flush()
            self._wait_for(self._progress.is_complete)  # if it never is, the report says so
            self._begin_redraw(len(self._frames) - 1)
            state, counters = self._sender.pipeline.state(), receiver.streams.all()[0].inbox.counters
            link = {
                "set_bps": options.rate_bps,
                "estimated_bps": state.capacity_bps,
                "min_rtt_s": round(self._sender.connection.rtt_s or 0.0, 4),
            }
            about: dict[str, Any] = {
                "broker": {"kind": broker.kind, "mqtt": self._sender.connection.version},
                "receiver": {
                    "mqtt": receiver.connection.version,
                    "layers": counters.layers,
                    "malformed": counters.malformed,
                    "undecodable": counters.undecodable,
                    "dropped": counters.dropped,
                },
                "bundle": {"id": self._codec.bundle.id, "digest": self._codec.bundle.digest},
            }
        return {"link": {**link, "up_bytes": relay.forwarded_bytes}, **about}

    def add_redrawn(self) -> None:
        """Wait for the pictures that are being redrawn, and add them to the progress."""
        for number, redraw in self._redraws.items():
            image, decode_s, path = redraw.result()
            self._progress.add_redrawn(number, image, decode_s, f"received/one-step/{path.name}")

    def _begin_redraw(self, number: int) -> None:
        """Have a received picture decoded once more, with one step of the flow decoder, if the bundle has one."""
        packet = self._progress.packets.get(number)
        if packet is not None and self._codec.has_flow:
            self._redraws[number] = self._redrawer.submit(self._redraw, number, packet)

    def _redraw(self, number: int, packet: Packet) -> tuple[NDArray[np.uint8], float, Path]:
        started_s = time.monotonic()
        image = self._codec.synthesize(self._codec.unpack(packet), steps=1)
        decode_s = time.monotonic() - started_s
        provenance = Provenance.of(packet, self._codec.bundle, steps=1)
        return image, decode_s, self._redrawn_sink.write(number, image, provenance)

    def enter_phase(self, phase: str) -> None:
        """Say what is done now."""
        self._progress.phase = phase
        self._show(self._progress)

    def _send(self, number: int) -> None:
        """Offer a picture until it was received, with its base layer at least, and let its interval pass."""
        frame, begun_s = self._frames[number], time.monotonic()
        offered_s = float("-inf")
        while not self._progress.is_received(number):
            now_s = time.monotonic()
            if now_s - begun_s > _PATIENCE_S:
                raise LinkError(
                    f"{frame.name} was not received within {_PATIENCE_S:.0f} s: "
                    "try a faster --link or a longer --interval"
                )
            waits = "layers_packed" not in self._progress.rows[number]
            if now_s - offered_s > _AGAIN_S or (waits and self._skipped):
                offered_s, self._skipped = now_s, False
                self._sender.offer(frame.image, str(number))
            self._take(_LOOK_UP_S)
        while (rest_s := begun_s + self._options.interval_s - time.monotonic()) > 0:
            self._take(min(rest_s, _LOOK_UP_S))

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        """Take events until the condition holds; returns whether it did in time."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while not (holds := condition()) and time.monotonic() < deadline_s:
            self._take(_LOOK_UP_S)
        return holds

    def _take(self, timeout_s: float) -> None:
        """Take the next event, if there is one in time."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return
        if isinstance(event, ReceivedPicture):
            number = self._progress.row_of(event)
            if number is None:
                return
            path = self._sink.write(number, event.image, event.provenance)
            self._progress.add_picture(number, event, f"received/{path.name}")
        else:
            self._skipped = self._skipped or isinstance(event, FrameSkipped)
            self._progress.add_event(event)
        self._show(self._progress)

"""Stages of coding on a board, run and timed one by one.

sender: capture -> encode -> pack -> send; receiver: unpack -> step0 -> step1 ...
"""

from __future__ import annotations

import contextlib
import itertools
import queue
from collections.abc import Callable, Iterator
from typing import Any

from edgesem.bundle.runner import Precision, Runtime
from edgesem.bundle.runner import choose as choose_runner
from edgesem.codec.codec import Codec
from edgesem.codec.drawing import MAX_STEPS
from edgesem.errors import EnvironmentMissing, LinkError, UsageError
from edgesem.packet.packet import Packet
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker
from runtime.profile.frames import Frame
from runtime.profile.timing import WARM_UP_FRAMES, Phase, Stopwatch, timed
from runtime.protocol.topics import Topics

_SEND_S = 10.0
_MAX_PACKETS = 16


class Loopback:
    """A broker on this machine and a connection that receives its own messages: the cost of `send` without a link.

    `reason` says why there is none, where there is none.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.reason: str | None = None
        self._received: queue.Queue[int] = queue.Queue()
        self._connection: Connection | None = None
        self._topics = Topics(site="profile", device="loopback", stream="main")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Loopback:
        try:
            broker = self._stack.enter_context(Broker())
            self._connection = self._stack.enter_context(
                Connection(
                    broker.address,
                    name="profile",
                    subscribe=self._topics.every_layer,
                    on_message=lambda _topic, payload: self._received.put(len(payload)),
                )
            )
            self.kind = broker.kind
        except (EnvironmentMissing, LinkError) as error:
            self.reason = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def available(self) -> bool:
        """Whether frames can be sent."""
        return self._connection is not None

    def send(self, packet: Packet) -> None:
        """Publish all layers and wait until each came back. Raises LinkError when one does not within 10 s."""
        assert self._connection is not None
        parts = packet.split()
        for part in parts:
            self._connection.publish(self._topics.layer(part.first_layer), part.to_bytes())
        for _ in parts:
            try:
                self._received.get(timeout=_SEND_S)
            except queue.Empty:
                raise LinkError(f"the loopback broker did not deliver a layer within {_SEND_S:.0f} s") from None


class StageRunner:
    """Runs the stages of a codec over frames for a given time, and times each with a stopwatch."""

    def __init__(self, codec: Codec, frames: Iterator[Frame], *, quality: float, stopwatch: Stopwatch) -> None:
        self.codec, self.stopwatch, self._quality = codec, stopwatch, quality
        self._frames = frames
        self.packets: list[Packet] = []
        """The first packets that were made, for the receiver's phase."""

    def send(self, seconds: float, loopback: Loopback) -> Phase:
        """Work as a sender for so long."""

        def one_frame() -> int:
            with self.stopwatch.stage("capture"):
                frame = next(self._frames)
            with self.stopwatch.stage("encode"):
                latent = self.codec.analyze(frame)
            with self.stopwatch.stage("pack"):
                packet = self.codec.pack(latent, quality=self._quality)
            if loopback.available:
                with self.stopwatch.stage("send"):
                    loopback.send(packet)
            if len(self.packets) < _MAX_PACKETS:
                self.packets.append(packet)
            return 0

        return self._run(one_frame, seconds)

    def receive(self, seconds: float, steps: int) -> Phase:
        """Work as a receiver of those packets for so long; step 0 is drawn, then up to `steps` flow steps."""
        packets = itertools.cycle(self.packets)

        def one_frame() -> int:
            packet = next(packets)
            with self.stopwatch.stage("unpack"):
                latent = self.codec.unpack(packet)
            decoded = 0
            for step in range(steps + 1):
                with self.stopwatch.stage(f"step{step}"):
                    decoded += self.codec.synthesize(latent, steps=step).nbytes
            return decoded

        return self._run(one_frame, seconds)

    def flow_steps(self) -> int:
        """The most flow steps that this bundle can draw."""
        latent = self.codec.unpack(self.packets[0])
        for step in range(1, MAX_STEPS + 1):
            try:
                self.codec.synthesize(latent, steps=step)
            except UsageError:
                return step - 1
        return MAX_STEPS

    def _run(self, one_frame: Callable[[], int], seconds: float) -> Phase:
        self.stopwatch.warming = True
        for _ in range(WARM_UP_FRAMES):
            one_frame()
        self.stopwatch.warming = False
        return timed(one_frame, seconds)


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def engine_of(codec: Codec, precision: Precision, runtime: Runtime) -> dict[str, Any]:
    """What runs the networks and why: runner, version and precision, and for encoder and decoder each."""
    import onnxruntime as ort

    parts = {}
    for part in ("encoder", "decoder"):
        choice = choose_runner(codec.bundle, part, precision, runtime)
        exact = "int8" if "int8" in choice.graph else "fp32" if choice.graph.endswith(".onnx") else "engine's own"
        parts[part] = {"runner": choice.runtime, "precision": exact, "reason": choice.reason}
    runner, used = parts["encoder"]["runner"], parts["encoder"]["precision"]
    name = runner if runner == "tensorrt" else f"onnxruntime {runner}"
    return {"runner": name, "version": ort.__version__, "precision": used, "parts": parts}

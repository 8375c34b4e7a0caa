"""One frame through all that a board does with it, each stage timed: sender `capture -> encode -> pack -> send`,
receiver `unpack -> step0 -> step1 ...`.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.runner import Precision, Runtime
from edgesem.bundle.runner import choose as choose_runner
from edgesem.codec.codec import Codec
from edgesem.errors import EnvironmentMissing, LinkError, UsageError
from edgesem.files import find_pictures, read_picture
from edgesem.packet.packet import Packet
from runtime.mqtt.connection import Connection, Topics
from runtime.mqtt.loopback_broker import Broker
from runtime.profile.energy import Window
from runtime.profile.latency import WARM_UP_FRAMES, Stopwatch

Frame = NDArray[np.uint8]

_SEND_S = 10.0
_CAMERA_FPS = 30.0
_MAX_STEPS = 4
_MAX_SIDE = 4096
_MIN_SIDE = 64


@dataclass(frozen=True)
class Phase:
    """A stretch of one kind of work: when it ran, on how many frames, how long each took and when it ended."""

    window: Window
    frames: int
    finished: list[tuple[float, float]]
    """(monotonic time, seconds for the whole frame) of each."""
    decoded_bytes: int = 0


def parse_size(size: str) -> tuple[int, int]:
    """`640x480` as (640, 480). Raises UsageError."""
    width, cross, height = size.partition("x")
    if cross and width.isdigit() and height.isdigit():
        sides = int(width), int(height)
        if min(sides) >= _MIN_SIDE and max(sides) <= _MAX_SIDE:
            return sides
    raise UsageError(f"--size {size}: write it as 640x480, each side {_MIN_SIDE} to {_MAX_SIDE}")


def pictures(source: Path, size: tuple[int, int]) -> Iterator[Frame]:
    """The pictures of a folder again and again, read from disk each time and brought to one size (uint8 [H, W, 3])."""
    from PIL import Image

    for path in itertools.cycle(find_pictures(source)):
        yield np.asarray(Image.fromarray(read_picture(path)).resize(size, Image.Resampling.BILINEAR))


def camera(uri: str, size: tuple[int, int]) -> Iterator[Frame]:
    """Frames of a camera as the sender opens it, brought to one size; each waits until the camera has a new one."""
    from PIL import Image

    from runtime.capture.source import Source
    from runtime.settings import SourceSettings

    settings = SourceSettings(uri=uri, width=size[0], height=size[1])
    for frame in Source(settings, fps=_CAMERA_FPS, stop=threading.Event()):
        picture = Image.fromarray(frame.image)
        yield np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR))
    raise EnvironmentMissing(f"{uri}: the camera gave no more frames")


class Loopback:
    """A broker on this machine and a connection to it that hears its own messages: what `send` costs without a link.

    `reason` says why there is none, where there is none.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.reason: str | None = None
        self._heard: queue.Queue[int] = queue.Queue()
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
                    on_message=lambda _topic, payload: self._heard.put(len(payload)),
                )
            )
            self.kind = broker.kind
        except (EnvironmentMissing, LinkError) as error:
            self.reason = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def there(self) -> bool:
        """Whether frames can be sent."""
        return self._connection is not None

    def send(self, packet: Packet) -> None:
        """Publish all layers and wait until each came back. Raises LinkError when one does not."""
        assert self._connection is not None
        parts = packet.split()
        for part in parts:
            self._connection.publish(self._topics.layer(part.first_layer), part.to_bytes())
        for _ in parts:
            try:
                self._heard.get(timeout=_SEND_S)
            except queue.Empty:
                raise LinkError(f"the loopback broker did not deliver a layer within {_SEND_S:.0f} s") from None


class Bench:
    """The stages of a codec, run over frames for a given time."""

    def __init__(self, codec: Codec, frames: Iterator[Frame], *, quality: float, watch: Stopwatch) -> None:
        self.codec, self.watch, self._quality = codec, watch, quality
        self._frames = frames
        self.packets: list[Packet] = []
        """A few of those that were made, for the receiver's phase."""

    def send(self, seconds: float, loopback: Loopback) -> Phase:
        """Work as a sender for so long."""

        def one() -> int:
            with self.watch.stage("capture"):
                frame = next(self._frames)
            with self.watch.stage("encode"):
                latent = self.codec.analyze(frame)
            with self.watch.stage("pack"):
                packet = self.codec.pack(latent, quality=self._quality)
            if loopback.there:
                with self.watch.stage("send"):
                    loopback.send(packet)
            if len(self.packets) < 16:
                self.packets.append(packet)
            return 0

        return self._run(one, seconds)

    def receive(self, seconds: float, steps: int) -> Phase:
        """Work as a receiver of those packets for so long, drawing step 0 and as many flow steps as named."""
        turn = itertools.cycle(self.packets)

        def one() -> int:
            packet = next(turn)
            with self.watch.stage("unpack"):
                latent = self.codec.unpack(packet)
            decoded = 0
            for step in range(steps + 1):
                with self.watch.stage(f"step{step}"):
                    decoded += self.codec.synthesize(latent, steps=step).nbytes
            return decoded

        return self._run(one, seconds)

    def flow_steps(self) -> int:
        """How many flow steps this bundle can draw."""
        latent = self.codec.unpack(self.packets[0])
        for step in range(1, _MAX_STEPS + 1):
            try:
                self.codec.synthesize(latent, steps=step)
            except UsageError:
                return step - 1
        return _MAX_STEPS

    def _run(self, one: Callable[[], int], seconds: float) -> Phase:
        self.watch.warming = True
        for _ in range(WARM_UP_FRAMES):
            one()
        self.watch.warming = False
        return timed(one, seconds)


def timed(one: Callable[[], int], seconds: float) -> Phase:
    """Repeat `one` (which tells the bytes it decoded) for so long, at least once."""
    start_s = now_s = time.monotonic()
    finished: list[tuple[float, float]] = []
    decoded = 0
    while now_s - start_s < seconds or not finished:
        began_s = now_s
        decoded += one()
        now_s = time.monotonic()
        finished.append((now_s, now_s - began_s))
    return Phase(Window(start_s, now_s), len(finished), finished, decoded)


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def engine_of(codec: Codec, precision: Precision, runtime: Runtime) -> dict[str, Any]:
    """What runs the networks and why: runner, version, precision; for encoder and decoder apart."""
    import onnxruntime as ort

    parts = {}
    for part in ("encoder", "decoder"):
        choice = choose_runner(codec.bundle, part, precision, runtime)
        exact = "int8" if "int8" in choice.graph else "fp32" if choice.graph.endswith(".onnx") else "engine's own"
        parts[part] = {"runner": choice.runtime, "precision": exact, "reason": choice.reason}
    runner, used = parts["encoder"]["runner"], parts["encoder"]["precision"]
    name = runner if runner == "tensorrt" else f"onnxruntime {runner}"
    return {"runner": name, "version": ort.__version__, "precision": used, "parts": parts}

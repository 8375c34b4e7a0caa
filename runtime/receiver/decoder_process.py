"""Decoding in processes of their own: `python -m runtime.receiver.decoder_process` draws the packets that it is given.

A process each, because entropy decoding is Python and holds its interpreter's lock, and because what a stranger's
packet does to a decoder - memory, a crash, an endless loop - then ends that process and not the daemon.

On its standard input and output stand messages: u32 length of a head, u32 length of a body, the head as JSON, the body.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.latent import Latent
from edgesem.entropy.schedule import CHANNELS, STRIDE
from edgesem.errors import BundleError, EdgesemError, LinkError, UsageError
from edgesem.packet.packet import Packet

_LENGTHS = struct.Struct("<II")
_LONGEST_S = 60.0
_NICE = 5
"""Below the receiver: what it has no time to take would grow stale in the broker, in place of giving way to newer."""
MAX_STEPS = 4


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn: `steps` of the flow decoder (0: none), its seed, and how much it may invent."""

    steps: int = 0
    seed: int = 0
    realism: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS:
            raise UsageError(f"steps must be 0 to {MAX_STEPS}, got {self.steps}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not 0 <= self.realism <= 1:
            raise UsageError(f"realism must be 0 to 1, got {self.realism}")


class Decoder:
    """A child process that decodes, started again when it is lost.

    `draw` is for one thread. `max_steps` is what the bundle's decoder can do: 0 without a flow decoder.
    """

    def __init__(self, bundle: Path | None = None, *, timeout_s: float = _LONGEST_S) -> None:
        self.max_steps = 0
        self.bundle_id = 0
        self.has_reference = False
        self._bundle, self._timeout_s = bundle, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    def __enter__(self) -> Decoder:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._end()

    def draw(self, packet: Packet, drawing: Drawing) -> NDArray[np.uint8]:
        """The picture in a packet: uint8 [H, W, 3], RGB. Raises EdgesemError if there is none in it."""
        return self.draw_known(packet, drawing, None)[0]

    def draw_known(
        self, packet: Packet, drawing: Drawing, reference: Latent | None
    ) -> tuple[NDArray[np.uint8], Latent | None]:
        """The picture in a packet that may refer to an earlier one, and what later ones may refer to, if any can."""
        steps = min(drawing.steps, self.max_steps)
        order: dict[str, Any] = {"steps": steps, "seed": drawing.seed, "realism": drawing.realism}
        data = packet.to_bytes()
        if reference is not None:
            order |= {"packet_bytes": len(data), "level": reference.level}
            data += reference.values.tobytes()
        if self._process is None:
            self._start()
        try:
            head, body = self._ask(order, data)
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise LinkError(f"the decoder was lost over frame {packet.frame}: {error}") from error
        if "error" in head:
            raise EdgesemError(head["error"])
        picture_bytes = 3 * packet.height * packet.width
        image = np.frombuffer(body, np.uint8, picture_bytes).reshape(packet.height, packet.width, 3)
        if not self.has_reference:
            return image, None
        shape = (CHANNELS, -(-packet.height // STRIDE), -(-packet.width // STRIDE))
        values = np.frombuffer(body, np.float32, offset=picture_bytes).reshape(shape).copy()
        return image, Latent(values, packet.width, packet.height, packet.q)

    def _start(self) -> None:
        # Our own folder first: a `runtime/` where the user happens to be is not ours.
        paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime.receiver.decoder_process", str(self._bundle or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **settings},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its children in order
        )
        try:
            head, _ = self._read()
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise LinkError(f"the decoder did not start: {error}") from error
        if "error" in head:
            self._end()
            raise BundleError(head["error"])
        self.max_steps, self.bundle_id = head["max_steps"], head["bundle_id"]
        self.has_reference = head["has_reference"]

    def _ask(self, order: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        too_long = threading.Timer(self._timeout_s, process.kill)
        too_long.start()
        try:
            _write(process.stdin, order, body)
            return self._read()
        finally:
            too_long.cancel()

    def _read(self) -> tuple[dict[str, Any], bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return _read(self._process.stdout)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(1 if self._ending else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _write(pipe: IO[bytes], head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    text = json.dumps(head).encode()
    pipe.write(_LENGTHS.pack(len(text), len(body)) + text)
    pipe.write(body)
    pipe.flush()


def _read(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    sizes = pipe.read(_LENGTHS.size)
    if len(sizes) < _LENGTHS.size:
        raise EOFError("it has ended")
    head_bytes, body_bytes = _LENGTHS.unpack(sizes)
    text, body = pipe.read(head_bytes), pipe.read(body_bytes)
    if len(text) < head_bytes or len(body) < body_bytes:
        raise EOFError("it ended in the middle of an answer")
    head: dict[str, Any] = json.loads(text)
    return head, body


def _serve(bundle: str) -> None:
    import edgesem

    if hasattr(os, "nice"):
        os.nice(_NICE)
    # Whatever prints must not stand between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    orders = sys.stdin.buffer
    try:
        codec = edgesem.load(bundle or None)
        codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8), quality=0))  # loads the graphs
        most = MAX_STEPS if codec.has_flow else 0
        _write(answers, {"bundle_id": codec.bundle.id, "max_steps": most, "has_reference": codec.has_reference})
    except EdgesemError as error:
        _write(answers, {"error": str(error)})
        return
    while True:
        try:
            order, data = _read(orders)
        except EOFError:
            return
        try:
            end = order.get("packet_bytes", len(data))
            packet = Packet.from_bytes(data[:end])
            reference = None
            if end < len(data):
                shape = (CHANNELS, -(-packet.height // STRIDE), -(-packet.width // STRIDE))
                values = np.frombuffer(data, np.float32, offset=end).reshape(shape)
                reference = Latent(values, packet.width, packet.height, order["level"])
            latent = codec.unpack(packet, reference)
            steps = order["steps"]
            how = {"steps": steps, "seed": order["seed"], "realism": order["realism"]} if steps else {}
            started_s = time.monotonic()
            picture = codec.synthesize(latent, **how)
            told = {"synthesize_s": time.monotonic() - started_s}
        except Exception as error:  # a stranger's bytes, or a defect of ours: neither may end the decoder
            _write(answers, {"error": f"{type(error).__name__}: {error}"})
        else:
            body = np.ascontiguousarray(picture).tobytes()
            _write(answers, told, body + (latent.values.tobytes() if codec.has_reference else b""))


if __name__ == "__main__":
    _serve(sys.argv[1] if len(sys.argv) > 1 else "")

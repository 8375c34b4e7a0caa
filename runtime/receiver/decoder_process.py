"""Decoder process: a child process that decodes packets, so that a hostile packet costs it and not the daemon.

It also gives each decoder an interpreter lock of its own: entropy decoding is Python code.

The child is `python -m runtime.receiver.decoder_process FD BUNDLE...`, connected by a pipe of `multiprocessing`. Two of
that module's means are left out on purpose. Its spawned processes import the user's main script again, which breaks
every script without a main guard (after doing half of its work twice), and every program from standard input. Its
`send` pickles, and unpickling the answers of a process that decodes strangers' packets would let it run code in the
receiver. So a message is a JSON object, then as many byte strings as it announces:

    parent -> child   {"steps", "seed", "realism", "level"}, packet, and for an inter frame the reference's values
    child -> parent   {}, pixels, and where the bundle has inter frames the values that later frames may refer to
    child -> parent   {"error"} instead, if the packet cannot be decoded
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.latent import Latent
from edgesem.entropy.schedule import CHANNELS, STRIDE
from edgesem.errors import BundleError, EdgesemError, LinkError
from edgesem.packet.packet import MAX_SIDE, Packet
from runtime.receiver.synthesis import SynthesisOptions

_LONGEST_S = 60.0
_NICE = 5
"""Below the receiver: messages that it has no time to take would grow stale in the broker."""
_MAX_BYTES = 3 * MAX_SIDE * MAX_SIDE
"""Of one byte string: the pixels of the largest frame."""


class DecoderProcess:
    """A child process that decodes, started again after it was lost. Use it as a context manager, from one thread.

    It decodes packets of each of the `bundles` (folders; None is the one that ships). A picture that takes longer than
    `timeout_s` seconds ends the process and costs that picture. Entering raises BundleError if a bundle cannot be used,
    LinkError if the process does not start.
    """

    def __init__(self, bundles: Sequence[Path | None] = (None,), *, timeout_s: float = _LONGEST_S) -> None:
        self._bundles, self._timeout_s = bundles, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection
        self._ending = False

    def __enter__(self) -> DecoderProcess:
        try:
            self._start()
        except BaseException:  # Ctrl-C, too: no process is left behind
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._end()

    def kill(self) -> None:
        """End the process at once, from any thread: the picture that is being decoded is lost. It is not used again."""
        self._ending = True
        process = self._process
        if process is not None:
            process.kill()

    def decode(
        self, packet: Packet, options: SynthesisOptions, reference: Latent | None = None
    ) -> tuple[NDArray[np.uint8], Latent | None]:
        """Decode a packet: its picture, uint8 [H, W, 3], RGB, and the latent that later packets may refer to.

        `reference` is the latent that the packet refers to, None for a keyframe. The latent is None where the packet's
        bundle has no inter frames; a bundle without a flow decoder does no steps. Raises EdgesemError if the packet
        cannot be decoded, LinkError if the process was lost over it; the next call starts another.
        """
        order: dict[str, Any] = {
            "steps": options.steps,
            "seed": options.seed,
            "realism": options.realism,
        }
        parts = [packet.to_bytes()]
        if reference is not None:
            order["level"] = reference.level
            parts.append(reference.values.tobytes())
        if self._ending:
            raise LinkError("the decoder has ended")
        if self._process is None:
            self._start()
        try:
            head, parts = self._ask(order, parts)
            if "error" in head:
                raise EdgesemError(str(head["error"]))
            image = np.frombuffer(parts[0], np.uint8).reshape(packet.height, packet.width, 3)
            return image, _latent(parts[1], packet, packet.q) if len(parts) > 1 else None
        except (OSError, EOFError, ValueError, IndexError) as error:
            self._end()
            raise LinkError(f"the decoder was lost over frame {packet.frame}: {error or 'it has ended'}") from error

    def _start(self) -> None:
        # Our own folder first: a `runtime/` where the user happens to be is not ours.
        paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        bundles = [str(bundle or "") for bundle in self._bundles]
        self._pipe, far = Pipe()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runtime.receiver.decoder_process", str(far.fileno()), *bundles],
                stdin=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                env={**os.environ, **settings},
                start_new_session=True,  # Ctrl-C is for the parent, which then ends its children in order
            )
        try:
            head, _ = _receive(self._pipe)
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise LinkError(f"the decoder did not start: {error or 'it has ended'}") from error
        if "error" in head:
            self._end()
            raise BundleError(head["error"])

    def _ask(self, order: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Send an order and wait for its answer, `timeout_s` at most: then the process is killed and the pipe ends."""
        assert self._process is not None
        too_long = threading.Timer(self._timeout_s, self._process.kill)
        too_long.start()
        try:
            _send(self._pipe, order, *parts)
            return _receive(self._pipe)
        finally:
            too_long.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._pipe.close()
        try:
            process.wait(1 if self._ending else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _send(pipe: Connection, head: dict[str, Any], *parts: bytes) -> None:
    pipe.send_bytes(json.dumps({**head, "parts": len(parts)}).encode())
    for part in parts:
        pipe.send_bytes(part)


def _receive(pipe: Connection) -> tuple[dict[str, Any], list[bytes]]:
    """One message. EOFError if the other end is gone, OSError or ValueError for what is no message."""
    head: dict[str, Any] = json.loads(pipe.recv_bytes(_MAX_BYTES))
    return head, [pipe.recv_bytes(_MAX_BYTES) for _ in range(min(2, head["parts"]))]


def _latent(values: bytes, packet: Packet, level: int) -> Latent:
    shape = (CHANNELS, -(-packet.height // STRIDE), -(-packet.width // STRIDE))
    return Latent(np.frombuffer(values, np.float32).reshape(shape), packet.width, packet.height, level)


def _serve(pipe: Connection, bundles: Sequence[str]) -> None:
    """Decode what the parent sends; raises EOFError or OSError once it has closed the pipe or is no more."""
    import edgesem

    with contextlib.suppress(OSError, AttributeError):  # where it is forbidden or unknown, all have one priority
        os.nice(_NICE)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the parent's standard output is for its results
    codecs = {}
    try:
        for bundle in bundles:
            codec = edgesem.load(bundle or None)
            codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8), quality=0))  # loads the graphs
            codecs[codec.bundle.id] = codec
    except EdgesemError as error:
        return _send(pipe, {"error": str(error)})
    _send(pipe, {})
    while True:
        order, parts = _receive(pipe)
        try:
            packet = Packet.from_bytes(parts[0])
            codec = codecs[packet.bundle_id]
            reference = _latent(parts[1], packet, order["level"]) if len(parts) > 1 else None
            latent = codec.unpack(packet, reference)
            steps = order["steps"] if codec.has_flow else 0
            how = {"steps": steps, "seed": order["seed"], "realism": order["realism"]} if steps else {}
            picture = codec.synthesize(latent, **how)
        except Exception as error:  # a stranger's bytes, or a defect of ours: neither may end the decoder
            _send(pipe, {"error": f"{type(error).__name__}: {error}"})
        else:
            _send(pipe, {}, picture.tobytes(), *([latent.values.tobytes()] if codec.has_reference else []))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(int(sys.argv[1])) as _pipe:
        _serve(_pipe, sys.argv[2:])

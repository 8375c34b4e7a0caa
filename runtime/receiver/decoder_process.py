"""Decoder process: a child process that decodes packets, so that a hostile packet costs it and not the daemon.

It also gives each decoder an interpreter lock of its own: entropy decoding is Python code.

The child is `python -m runtime.receiver.decoder_process FD NICE BUNDLE...`, connected by a pipe of `multiprocessing`.
Two of that module's means are left out on purpose. Its spawned processes import the user's main script again, which
breaks every script without a main guard (after doing half of its work twice), and every program from standard input.
Its `send` pickles, and unpickling the answers of a process that decodes strangers' packets would let it run code in the
receiver. So a message is a JSON object, then as many byte strings as it announces:

    parent -> child   {"steps", "seed", "realism", "decoder", "level", "region", "draw"}, packet, and of an inter
                      frame the reference's values, and their levels if it has copies
    child -> parent   {}, pixels (none without "draw"), and where the bundle has inter frames the values that later
                      frames may refer to, and their levels if it has copies
    child -> parent   {"error"} instead, if the packet cannot be decoded
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.runner import give_back
from edgesem.codec.latent import Latent
from edgesem.entropy.schedule import CHANNELS, STRIDE
from edgesem.errors import BundleError, EdgesemError, LinkError
from edgesem.packet.packet import MAX_SIDE, Packet
from edgesem.packet.side_information import Reference, Region, SideInformation
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.synthesis import SynthesisOptions

if TYPE_CHECKING:
    from edgesem.codec.codec import Codec
    from runtime.receiver.decoder_template import DecoderCopy, DecoderTemplate

_LONGEST_S = 60.0
NICE = 5
"""Below the receiver: messages that it has no time to take would grow stale in the broker."""
IDLE_S = 2.0
"""After so long without work a decoder gives memory back."""
_MAX_BYTES = 3 * MAX_SIDE * MAX_SIDE
"""Of one byte string: the pixels of the largest frame."""


class DecoderProcess:
    """A child process that decodes, started again after it was lost. Use it as a context manager, from one thread.

    It decodes packets of each of the `bundles` (folders; None is the one that ships). A picture that takes longer than
    `timeout_s` seconds ends the process and costs that picture. `nice` says how far its priority is below ours. With a
    `template`, which must be entered and have the same bundles, the process is a copy of that. Entering raises
    BundleError if a bundle cannot be used, LinkError if the process does not start.
    """

    def __init__(
        self,
        bundles: Sequence[Path | None] = (None,),
        *,
        timeout_s: float = _LONGEST_S,
        nice: int = NICE,
        template: DecoderTemplate | None = None,
    ) -> None:
        self._bundles, self._timeout_s, self._nice, self._template = bundles, timeout_s, nice, template
        self._process: subprocess.Popen[bytes] | DecoderCopy | None = None
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
        self, packet: Packet, options: SynthesisOptions, reference: HeldLatent | None = None, *, draw: bool = True
    ) -> tuple[NDArray[np.uint8], HeldLatent | None]:
        """Decode a packet: its picture, uint8 [H, W, 3], RGB, and the latent that later packets may refer to.

        `reference` is the latent that the packet refers to, None for a keyframe. Without `draw`, for the sake of the
        latent alone, the picture is empty, [0, 0, 3]. The latent is None where the packet's bundle has no inter frames;
        a bundle without a flow decoder does no steps. Raises EdgesemError if the packet cannot be decoded, LinkError if
        the process was lost over it; the next call starts another.
        """
        order: dict[str, Any] = {
            "steps": options.steps,
            "seed": options.seed,
            "realism": options.realism,
            "decoder": options.decoder,
            "draw": draw,
        }
        parts = [packet.to_bytes()]
        if reference is not None:
            order["reference"] = reference.width, reference.height, reference.level
            order["region"] = None if reference.region is None else astuple(reference.region)
            parts += [reference.values, reference.copied_levels]
        if self._ending:
            raise LinkError("the decoder has ended")
        if self._process is None:
            self._start()
        try:
            head, parts = self._ask(order, parts)
            if "error" in head:
                raise EdgesemError(str(head["error"]))
            height, width = (packet.height, packet.width) if draw else (0, 0)
            image = np.frombuffer(parts[0], np.uint8).reshape(height, width, 3)
            if len(parts) == 1:
                return image, None
            region = packet.side_info.region
            return image, HeldLatent(parts[1], parts[2], packet.width, packet.height, packet.q, region)
        except (OSError, EOFError, ValueError, IndexError) as error:
            self._end()
            raise LinkError(f"the decoder was lost over frame {packet.frame}: {error or 'it has ended'}") from error

    def _start(self) -> None:
        self._pipe, far = Pipe()
        with far:
            if self._template is None:
                self._process = program("decoder_process", far.fileno(), str(self._nice), *named(self._bundles))
            else:
                self._process = self._template.copy(far)
        try:
            head, _ = _receive(self._pipe)
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise LinkError(f"the decoder did not start: {error or 'it has ended'}") from error
        if "error" in head:
            self._end()
            raise BundleError(head["error"])

    def _ask(self, order: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Send an order and wait for its answer, `timeout_s` at most: then TimeoutError, and the process must end."""
        # The kernel keeps the time, of each read and write: a timer's thread would cost more than the rest of this.
        limit = struct.pack("@ll", int(self._timeout_s), max(1, int(self._timeout_s % 1 * 1e6)))
        with socket.fromfd(self._pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as pipe:
            pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            _send(self._pipe, order, *parts)
            return _receive(self._pipe)
        except BlockingIOError as error:
            raise TimeoutError(f"it took longer than {self._timeout_s:g} s") from error

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
    return head, [pipe.recv_bytes(_MAX_BYTES) for _ in range(min(3, head["parts"]))]


def program(module: str, pipe: int, *arguments: str) -> subprocess.Popen[bytes]:
    """A new Python that runs a module of this package, with one end of a pipe."""
    # Our own folder first: a `runtime/` where the user happens to be is not ours.
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", f"runtime.receiver.{module}", str(pipe), *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=[pipe],
        env={**os.environ, **settings},
        start_new_session=True,  # Ctrl-C is for the parent, which then ends its children in order
    )


def named(bundles: Sequence[Path | None]) -> list[str]:
    """Folders of bundles as arguments of a program; empty for the one that ships."""
    return [str(bundle or "") for bundle in bundles]


def be_nice(nice: int) -> None:
    """Lower this process's priority; where that is forbidden or unknown, all have one priority."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(nice)


def open_codecs(bundles: Sequence[str]) -> dict[int, Codec]:
    """The codecs of bundles, by their ids, with all that it takes to decode a packet loaded. Raises EdgesemError."""
    import edgesem
    from edgesem.codec.options import PackOptions

    codecs = {}
    blank = Latent(np.zeros((CHANNELS, 64 // STRIDE, 64 // STRIDE), np.float32), 64, 64)
    for bundle in bundles:
        codec = edgesem.load(bundle or None)
        alone = PackOptions(background=False)
        key, known = codec.pack_decoded(blank, quality=0, options=alone)  # without the encoder: it is not needed here
        codec.synthesize(known)
        if codec.has_large_decoder:
            codec.synthesize(known, decoder="large")
        if codec.has_reference:
            _ = codec.backgrounds  # decoded now, for all copies of this process
            side_info = SideInformation(reference=Reference(key.frame, len(key.chunks)))
            codec.pack(blank, quality=0, options=PackOptions(side_info=side_info, reference=known, previous=key))
        codecs[codec.bundle.id] = codec
    return codecs


def serve(pipe: Connection, codecs: Mapping[int, Codec]) -> None:
    """Decode what the parent sends; raises EOFError or OSError once it has closed the pipe or is no more."""
    _send(pipe, {})
    while True:
        if not pipe.poll(IDLE_S):
            give_back()  # what a picture leaves over speeds up the next one, if that comes soon
        order, parts = _receive(pipe)
        try:
            packet = Packet.from_bytes(parts[0])
            codec = codecs[packet.bundle_id]
            region = Region(*order["region"]) if order.get("region") else None
            reference = None
            if len(parts) > 1:
                width, height, level = order["reference"]
                held = HeldLatent(parts[1], parts[2], width, height, level, region)
                reference = held.latent(codec.bundle.gain)
            latent = codec.unpack(packet, reference)
            steps = order["steps"] if codec.has_flow else 0
            how = {"steps": steps, "seed": order["seed"], "realism": order["realism"]} if steps else {}
            how["decoder"] = codec.decoder_for(steps, order["decoder"])
            pixels = codec.synthesize(latent, **how).tobytes() if order["draw"] else b""
        except Exception as error:  # a stranger's bytes, or a defect of ours: neither may end the decoder
            _send(pipe, {"error": f"{type(error).__name__}: {error}"})
        else:
            if codec.has_reference:
                held = HeldLatent.of(latent, codec.bundle.gain)
                _send(pipe, {}, pixels, held.values, held.copied_levels)
            else:
                _send(pipe, {}, pixels)


def _run(pipe: Connection, nice: int, bundles: Sequence[str]) -> None:
    be_nice(nice)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the parent's standard output is for its results
    try:
        codecs = open_codecs(bundles)
    except EdgesemError as error:
        _send(pipe, {"error": str(error)})
    else:
        serve(pipe, codecs)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(int(sys.argv[1])) as _pipe:
        _run(_pipe, int(sys.argv[2]), sys.argv[3:])

"""Decoder template: a process with all graphs loaded, of which each decoder is a copy (fork).

What is loaded is in memory once however many decoders there are, and a further one runs within milliseconds. The
template itself decodes nothing of others: a packet that has harmed one decoder has harmed no later one.

The program is `python -m runtime.receiver.decoder_template FD BUNDLE...`. FD is a socket: first the template says
as JSON that it is ready ({}) or why not ({"error"}), then each request is a letter and a process id, and each answer a
process id: C with one end of a decoder's pipe makes a copy that serves it (0: that could not be), K ends a copy. It
ends when the socket is closed, and its copies with it. It has one thread, as what is forked must.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edgesem.bundle.runner import give_back
from edgesem.errors import BundleError, EdgesemError, LinkError
from runtime.receiver.decoder_process import NICE, be_nice, named, open_codecs, program, serve

_REQUEST = struct.Struct("<cI")
_ANSWER = struct.Struct("<I")
_COPY, _KILL = b"C", b"K"
_PR_SET_PDEATHSIG = 1
_MAX_READY_BYTES = 1 << 16
_LONGEST_S = 10.0
"""It answers within milliseconds: one that takes longer is held up for good."""


class DecoderTemplate:
    """Template of decoders for packets of each of the `bundles` (folders; None is the one that ships).

    Use it as a context manager. Entering raises BundleError if a bundle cannot be used, LinkError if the process does
    not start. Thread-safe.
    """

    def __init__(self, bundles: Sequence[Path | None] = (None,)) -> None:
        self._bundles = bundles
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket
        self._ended = True

    def __enter__(self) -> DecoderTemplate:
        with self._lock:
            self._ended = False
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended = True
            self._end()

    def copy(self, pipe: Connection) -> DecoderCopy:
        """A new decoder, which serves this end of a pipe. A template that was lost is started again.

        Raises LinkError if there can be none.
        """
        with self._lock:
            if self._ended:
                raise LinkError("the decoders have ended")
            if self._process is None:
                self._start()
            pid = self._ask(_COPY, 0, pipe)
        if not pid:
            raise LinkError("no further decoder could be started: the system has no memory, or no process, left for it")
        return DecoderCopy(self, pid)

    def kill(self, pid: int) -> None:
        """End a copy, if it still runs."""
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(LinkError):  # then it is gone with the template, once its pipe is closed
                    self._ask(_KILL, pid)

    def _start(self) -> None:
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self._process = program("decoder_template", far.fileno(), *named(self._bundles))
        try:
            ready = self._control.recv(_MAX_READY_BYTES)
            found: dict[str, Any] = json.loads(ready) if ready else {"lost": "it has ended"}
        except BaseException as error:  # Ctrl-C, too: no process is left behind
            self._end()
            if isinstance(error, (OSError, ValueError)):
                raise LinkError(f"the decoders did not start: {error}") from error
            raise
        if found:
            self._end()
            raise BundleError(found["error"]) if "error" in found else LinkError("the decoders did not start")
        self._control.settimeout(_LONGEST_S)

    def _ask(self, kind: bytes, pid: int, pipe: Connection | None = None) -> int:
        try:
            socket.send_fds(self._control, [_REQUEST.pack(kind, pid)], [] if pipe is None else [pipe.fileno()])
            return int(_ANSWER.unpack(self._control.recv(_ANSWER.size))[0])
        except (OSError, struct.error) as error:
            self._end()
            raise LinkError(f"the template of the decoders was lost: {error}") from error

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._control.close()
            process.kill()
            process.wait()


class DecoderCopy:
    """A decoder that the template has made: what `DecoderProcess` needs of a process."""

    def __init__(self, template: DecoderTemplate, pid: int) -> None:
        self._template, self.pid = template, pid

    def kill(self) -> None:
        """End it at once, from any thread."""
        self._template.kill(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """End it, as its pipe is closed: it has nothing to finish. Returns 0."""
        self.kill()
        return 0


def _run(control: socket.socket, bundles: Sequence[str]) -> None:
    be_nice(NICE)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the parent's standard output is for its results
    try:
        codecs = open_codecs(bundles)
    except EdgesemError as error:
        control.send(json.dumps({"error": str(error)}).encode()[:_MAX_READY_BYTES])
        return
    control.send(json.dumps({}).encode())
    gc.collect()
    give_back()
    gc.freeze()  # a collection in a copy would write to what it shares with us
    copies: set[int] = set()
    while True:
        request, pipes, *_ = socket.recv_fds(control, _REQUEST.size, 1)
        if not request:
            return
        copies = {pid for pid in copies if os.waitpid(pid, os.WNOHANG) == (0, 0)}  # the others have ended
        kind, pid = _REQUEST.unpack(request)
        if kind == _KILL:
            if pid in copies:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                copies.remove(pid)
        else:
            pid = _fork(pipes[0], control, codecs)
            copies |= {pid} if pid else set()
        control.send(_ANSWER.pack(pid))


def _fork(pipe: int, control: socket.socket, codecs: dict[int, Any]) -> int:
    """A copy of this process that serves a pipe; its process id, 0 if the system has no room for it."""
    template = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        pid = -1
    if pid:
        os.close(pipe)
        return max(pid, 0)
    try:
        control.close()
        _die_with(template)
        with Connection(pipe) as far:
            serve(far, codecs)
    finally:
        os._exit(0)  # whatever happens, a copy does not go on as the template


def _die_with(parent: int) -> None:
    """Have Linux end this process with its parent, so that none is left behind that hangs in a packet."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), socket.socket(fileno=int(sys.argv[1])) as _control:
        _run(_control, sys.argv[2:])

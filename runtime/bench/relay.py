"""TCP relay: a thin link on this machine, or a server that can be made unreachable.

    sender -> relay (token bucket, both directions) -> broker

Receive buffer and bucket are small, so the sender feels the rate in its own socket, and no queue hides it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field

_SEGMENT_BYTES = 1400  # loopback would otherwise move 64 KB at a time, far more than a thin link holds
_RECEIVE_BUFFER_BYTES = 2048
_CHUNK_BYTES = 1 << 16


@dataclass
class TokenBucket:
    """Token bucket: how long bytes must wait so that no more than `rate_bps` pass, except a burst of `burst_bytes`.

    Time is an argument. The bucket may go into debt, which the returned wait pays back.
    """

    rate_bps: float
    burst_bytes: float
    _tokens: float = field(init=False, repr=False)
    _filled_s: float = field(default=float("-inf"), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rate_bps <= 0 or self.burst_bytes < 0:
            raise ValueError(f"a bucket needs a positive rate, got {self.rate_bps} bit/s, burst {self.burst_bytes} B")
        self._tokens = self.burst_bytes

    def take(self, size_bytes: int, now_s: float) -> float:
        """Take `size_bytes` out and return the seconds to wait before they may pass."""
        if self._filled_s != float("-inf"):
            gained = (now_s - self._filled_s) * self.rate_bps / 8
            self._tokens = min(self.burst_bytes, self._tokens + gained)
        self._filled_s = now_s
        self._tokens -= size_bytes
        return max(0.0, -self._tokens * 8 / self.rate_bps)


class Relay:
    """Relay that forwards every connection to `127.0.0.1:port` to the target, each direction at `rate_bps`.

    All connections share the two buckets, as they would share a radio; a rate of None is no limit. Thread-safe. Use it
    as a context manager.
    """

    def __init__(self, *, target: tuple[str, int], rate_bps: float | None) -> None:
        self.chunk_bytes = _CHUNK_BYTES if rate_bps is None else int(min(16384, max(256, rate_bps / 8 * 0.02)))
        self.forwarded_bytes = 0
        """Bytes that went from the sender's side to the target."""
        self._target = target
        self._up, self._down = (None if rate_bps is None else _Shaper(rate_bps, self.chunk_bytes) for _ in range(2))
        self._lock, self._reachable = threading.Lock(), True
        self._stopping = threading.Event()
        self._passing = threading.Event()
        self._passing.set()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        if rate_bps is not None:
            # Inherited by every accepted connection; set before listen, or the window is agreed without them.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Relay:
        self._run("accept", self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._passing.set()
        self.stop()
        _shut(self._listener)
        for thread in tuple(self._threads):
            thread.join(timeout=5)

    def cut(self) -> None:
        """Let nothing through, as a radio out of reach: connections stay open, their bytes wait."""
        self._passing.clear()

    def mend(self) -> None:
        """Let everything through again, first what waited."""
        self._passing.set()

    def stop(self) -> None:
        """Make the target unreachable: all connections end, and each that comes."""
        with self._lock:
            self._reachable = False
            for sock in tuple(self._open):
                _shut(sock)

    def start(self) -> None:
        """Make it reachable again."""
        with self._lock:
            self._reachable = True

    def _run(self, name: str, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=f"relay.{name}", daemon=True)  # type: ignore[arg-type]
        self._threads = [old for old in self._threads if old.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                _shut(near)
                continue
            far.settimeout(None)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                reachable = self._reachable
                if reachable:
                    self._open |= {near, far}
            if not reachable:
                _shut(near)
                _shut(far)
                continue
            self._run("up", self._pump, near, far, self._up, True)
            self._run("down", self._pump, far, near, self._down, False)

    def _pump(self, source: socket.socket, sink: socket.socket, shaper: _Shaper | None, count: bool) -> None:
        with contextlib.suppress(OSError):  # either end hung up: the other one must learn it
            while data := source.recv(self.chunk_bytes):
                if shaper is not None and self._stopping.wait(shaper.wait_s(len(data))):
                    break
                self._passing.wait()
                sink.sendall(data)
                if count:
                    self.forwarded_bytes += len(data)
        for sock in (source, sink):
            _shut(sock)
            self._open.discard(sock)


class _Shaper:
    """Thread-safe token bucket on the monotonic clock."""

    def __init__(self, rate_bps: float, burst_bytes: int) -> None:
        self._bucket = TokenBucket(rate_bps, burst_bytes)
        self._lock = threading.Lock()

    def wait_s(self, size_bytes: int) -> float:
        with self._lock:
            return self._bucket.take(size_bytes, time.monotonic())


def _shut(sock: socket.socket) -> None:
    """Close a socket so that a thread blocked in it wakes up."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

"""TCP forwarder: stands before a server, and can make it unreachable for a while without touching it."""

from __future__ import annotations

import contextlib
import socket
import threading

_CONNECT_S = 5.0
_CHUNK_BYTES = 1 << 16


class Forwarder:
    """Forwards each connection to `127.0.0.1:port` to `target`, host and port. Thread-safe.

    Stopped, it cuts all connections, and ends each that comes. It begins started. Use it as a context manager.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._passing = True
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Forwarder:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _shut(self._listener)

    def stop(self) -> None:
        """Make the target unreachable."""
        with self._lock:
            self._passing = False
            for one in self._sockets:
                _shut(one)
            self._sockets.clear()

    def start(self) -> None:
        """Make it reachable again."""
        with self._lock:
            self._passing = True

    def _run(self, work: object, *given: object) -> None:
        threading.Thread(target=work, args=given, name="forwarder", daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            try:
                far = socket.create_connection(self._target, timeout=_CONNECT_S)
            except OSError:
                _shut(near)
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                passing = self._passing
                if passing:
                    self._sockets |= {near, far}
            if passing:
                self._run(self._pump, near, far)
                self._run(self._pump, far, near)
            else:
                _shut(near)
                _shut(far)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                sink.sendall(data)
        with self._lock:
            self._sockets -= {source, sink}
        _shut(source)
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    """Close a socket so that a thread blocked in it wakes up."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

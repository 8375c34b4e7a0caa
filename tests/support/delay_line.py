"""A long way between two ends of TCP on this machine: what is sent arrives later, and is written down."""

import contextlib
import queue
import socket
import threading
import time


class DelayLine:
    """Forwards each connection to `127.0.0.1:port` to the target, each byte `delay_s` later, both ways.

    `delay_s` may be changed; what is on its way then keeps its time. `sent` is what the client's side has sent.
    """

    def __init__(self, target, delay_s):
        self.target, self.delay_s = target, delay_s
        self.sent = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets, self._threads = [], []

    def __enter__(self):
        self._run(self._accept)
        return self

    def __exit__(self, *_):
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def packets(self):
        """Kind and size in bytes of each MQTT packet that the client's side has sent whole."""
        found, at = [], 0
        while at + 2 <= len(self.sent):
            size, shift, end = 0, 0, at + 1
            while True:
                size |= (self.sent[end] & 127) << shift
                shift, end = shift + 7, end + 1
                if not self.sent[end - 1] & 128:
                    break
            found.append((self.sent[at] >> 4, end + size - at))
            at = end + size
        return found

    def _run(self, work, *given):
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self.target)
                self._sockets += [near, far]
                for source, sink, log in ((near, far, self.sent), (far, near, bytearray())):
                    waiting = queue.Queue()
                    self._run(self._read, source, waiting, log)
                    self._run(self._write, sink, waiting)

    def _read(self, source, waiting, log):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                log += data
                waiting.put((time.monotonic() + self.delay_s, data))
        waiting.put((time.monotonic() + self.delay_s, b""))

    def _write(self, sink, waiting):
        with contextlib.suppress(OSError):
            while True:
                due_s, data = waiting.get()
                time.sleep(max(0.0, due_s - time.monotonic()))  # this is the way, not a wait for something
                if not data:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)

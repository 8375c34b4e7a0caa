"""An `edgesem` command as a process of its own, whose JSON lines are read as they come."""

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

WAIT_S = 120
_FIRST_PORT = 10_000


class EdgesemProcess:
    """`edgesem ARGS --json`, its log appended to the file `log`."""

    def __init__(self, *args, log, env=None, stdin=subprocess.DEVNULL):
        self.events = []
        self._changed = threading.Condition()
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", *map(str, args), "--json"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError), self._changed:  # a line that a kill has cut
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def of(self, kind, key):
        """What `key` makes of each event of one kind so far."""
        with self._changed:
            return [key(event) for event in self.events if event.get("event") == kind]

    def wait_for(self, kind, condition=lambda event: True, *, after=0):
        """The first event, of those from number `after` on, of a kind and with a condition; fails without one."""

        def found():
            return next((e for e in self.events[after:] if e.get("event") == kind and condition(e)), None)

        with self._changed:
            deadline_s = time.monotonic() + WAIT_S
            while found() is None and self._reader.is_alive() and time.monotonic() < deadline_s:
                self._changed.wait(0.5)
            assert found() is not None, f"no {kind}; the last of {len(self.events)}: {self.events[-3:]}"
            return found()

    def end(self, number=signal.SIGTERM):
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self):
        """Wait for the end and return the exit code."""
        try:
            code = self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self._log.close()
        return code


def free_port():
    """A port that nobody uses at this moment, and that the system gives to nobody who does not ask for it.

    Among those that it gives to outgoing connections, and to servers on port 0, one may be gone before it is used.
    """
    with contextlib.suppress(OSError):  # a system other than Linux
        first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        while first_given > 2 * _FIRST_PORT:
            port = _FIRST_PORT + secrets.randbelow(first_given - _FIRST_PORT)
            with socket.socket() as sock, contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def edgesem_processes():
    """A function that starts commands as `EdgesemProcess` does; those that still run are ended with the context."""
    started = []

    def start(*args, **more):
        started.append(EdgesemProcess(*args, **more))
        return started[-1]

    try:
        yield start
    finally:
        for process in reversed(started):
            if process.process.poll() is None:
                process.process.terminate()
            process.finish()

"""Swarm: a child process that runs many simulated cameras on one thread, each with a connection of its own."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import resource
import selectors
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho

from edgesem.errors import UsageError
from runtime.bench.fleet.camera import BIRTH_S, STATE_S, Camera
from runtime.bench.fleet.recorded import Stamper
from runtime.mqtt.address import Address
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.protocol.topics import Topics

_KEEP_S, _TELL_S = 1.0, 0.5
_DEAD_S = (0.25, 0.5)  # before it connects anew, as a sender does
_STEP_S = 0.05
_DESCRIPTORS = 64  # of this process, besides those of the cameras


class Swarm:
    """Cameras and their due dates. `run` serves them until the parent closes our standard input."""

    def __init__(self, job: Job) -> None:
        addresses = [Address(**one) for one in job["addresses"]]
        stamper = Stamper([[b64decode(one) for one in sequence] for sequence in job["sequences"]])
        self._interval_s, self._seconds = float(job["interval_s"]), float(job["seconds"])
        _allow_descriptors(job["cameras"] + _DESCRIPTORS)
        self.cameras = [
            Camera(
                Topics(job["site"], f"camera-{number}", "main"),
                addresses,
                job["version"],
                stamper,
                fps=1 / self._interval_s,
                promise_every=job["promise_every"],
                clock=time.monotonic,
            )
            for number in range(job["cameras"])
        ]
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._filming_until_s = 0.0

    def run(self) -> None:
        """Connect all cameras, film, and then answer until the parent has heard enough."""
        ended = stdin_closed()
        began_s = time.monotonic()
        for number, camera in enumerate(self.cameras):
            self._connect(camera)
            self._serve(0.0)
            self._each(began_s + number / len(self.cameras) * STATE_S, STATE_S, camera.say_state)
            self._each(began_s + BIRTH_S * (1 + random.random()), BIRTH_S, camera.say_birth)
        while not all(camera.up for camera in self.cameras) and not ended.is_set():
            self._step()
        emit(event="connected", pid=os.getpid(), seconds=time.monotonic() - began_s)
        if not self._wait_for_start(ended.is_set):
            return
        now_s = time.monotonic()
        self._filming_until_s = now_s + self._seconds
        for number, camera in enumerate(self.cameras):
            self._film(camera, now_s + number / len(self.cameras) * self._interval_s)
        told = False
        next_s = now_s
        while not ended.is_set():
            now_s = time.monotonic()
            self._step()  # films all that is due by then, however late it is
            if not told and now_s >= self._filming_until_s:
                told = True
                emit(event="filmed", sent=sum(camera.sent for camera in self.cameras))
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + _TELL_S
                self._tell()
        for camera in self.cameras:
            camera.leave()
        self._serve(0.2)

    def _wait_for_start(self, ended: Callable[[], bool]) -> bool:
        """Go on serving until the parent makes the file `start` in our folder."""
        while not Path("start").exists():
            if ended():
                return False
            self._step()
        return True

    def _tell(self) -> None:
        names = ("sent", "promised", "kept", "acked", "lost_connections", "inter_frames", "frame_bytes")
        totals = {name: sum(getattr(camera, name) for camera in self.cameras) for name in names}
        emit(event="totals", waiting=sum(len(camera.waiting) for camera in self.cameras), **totals)

    def _film(self, camera: Camera, at_s: float) -> None:
        if at_s >= self._filming_until_s:
            return

        def film() -> None:
            camera.film()
            self._film(camera, at_s + self._interval_s)

        self._at(at_s, film)

    def _each(self, at_s: float, every_s: float, act: Callable[[], None]) -> None:
        def again() -> None:
            act()
            self._each(at_s + every_s, every_s, act)

        self._at(at_s, again)

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (at_s, self._order, act))

    def _connect(self, camera: Camera) -> None:
        try:
            camera.connect()
        except OSError:
            self._at(time.monotonic() + random.uniform(*_DEAD_S), lambda: self._connect(camera))
            return
        sock = camera.client.socket()
        if sock is not None:
            self._selector.register(sock, selectors.EVENT_READ, camera)
        self._keep(camera, camera.client)

    def _keep(self, camera: Camera, client: paho.Client) -> None:
        """Look after the keep-alive of a connection each second, and make another when it is lost."""
        if camera.client is not client:
            return
        client.loop_misc()
        if client.socket() is None:
            self._forget_closed()
            self._at(time.monotonic() + random.uniform(*_DEAD_S), lambda: self._connect(camera))
        else:
            self._at(time.monotonic() + _KEEP_S, lambda: self._keep(camera, client))

    def _step(self) -> None:
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s:
            heapq.heappop(self._due)[2]()
        wait_s = self._due[0][0] - time.monotonic() if self._due else _STEP_S
        self._serve(min(max(wait_s, 0.0), _STEP_S))

    def _serve(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            camera: Camera = key.data
            if camera.client.socket() is key.fileobj:
                camera.client.loop_read()
                if camera.client.want_write():
                    camera.client.loop_write()
            if camera.client.socket() is not key.fileobj:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(key.fileobj)

    def _forget_closed(self) -> None:
        """Leave sockets alone that paho has closed."""
        for key in list(self._selector.get_map().values()):
            if key.data.client.socket() is not key.fileobj:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(key.fileobj)


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise UsageError(f"this machine allows {hard} open files (ulimit -Hn), the cameras need {count}: take fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


if __name__ == "__main__":
    sys.exit(run_child(lambda job: Swarm(job).run()))

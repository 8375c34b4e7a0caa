"""How many cameras one receiver bears: real packets of QVGA photographs, one a second and stream, drawn with step 0.

All pictures are drawn, or those of the cameras that somebody watches on the live page, or none: then frames are only
decoded, so that the next ones can be. `EDGESEM_STREAMS` (32) and `EDGESEM_SECONDS` (30) say how many and how long. How
late pictures are depends on who else works on the machine, and is printed; so is how many streams two cores could bear
by what a frame costs.
"""

import json
import os
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesem.errors import LinkError
from runtime.bench.fleet.process_use import busy_s, descendants_of, use_of
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.clock import clock_ms
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import WAIT_S, EdgesemProcess
from tests.support.publishing import photo_packet
from tests.support.real_broker import Mosquitto

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to read processor time from"),
]
CORES, SPARE = 2, 0.8
BYTES_AND_WATCHED = [(1200, 1.0), (4000, 1.0), (4000, 0.1), (4000, 0.0)]
"""Bytes of a packet, and the share of cameras that are watched."""


def spent_s(root):
    """Processor seconds of a process and its descendants so far: {pid: seconds}."""
    return {pid: use_of([pid]).cpu_s for pid in (root, *descendants_of(root))}


class Page:
    """A live page that shows some cameras: asks for the figures each second, and for each picture that is new."""

    def __init__(self, url, names):
        self._url, self._names, self._stop = url, names, threading.Event()
        self.pictures = 0
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self):
        if self._names:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        if self._names:
            self._thread.join(WAIT_S)

    def _get(self, path):
        with urllib.request.urlopen(self._url + path, timeout=WAIT_S) as answer:
            return answer.read()

    def _show(self):
        view, shown = "&".join(f"view={name}" for name in self._names), {}
        while not self._stop.wait(1.0):
            for told in json.loads(self._get(f"streams.json?samples=&{view}"))["streams"]:
                number = told["picture"] and told["picture"]["number"]
                if told["name"] in self._names and number != shown.get(told["name"]):
                    shown[told["name"]] = number
                    self._get(f"{told['name']}.jpg?{number}")
                    self.pictures += 1


@pytest.mark.parametrize(("size_bytes", "watched"), BYTES_AND_WATCHED)
def test_two_cores_bear_all_streams(tmp_path, size_bytes, watched):
    count, seconds = int(os.environ.get("EDGESEM_STREAMS", "32")), float(os.environ.get("EDGESEM_SECONDS", "30"))
    whole = photo_packet(size_bytes, 320, 240)
    broker = Mosquitto(tmp_path / "broker")
    where = ["--view", "always"] if watched == 1 else ["--http", 0]
    receiver = EdgesemProcess(
        *("receive", "load/+/+", *broker.there, "--workers", CORES, *where), log=tmp_path / "receive.log"
    )
    seen = [f"load/camera{camera}/main" for camera in range(round(watched * count))]
    stop, published = threading.Event(), []

    def film():
        """All cameras, each at its own moment of the second."""
        begin_s = time.monotonic()
        for number in range(round(seconds)):
            for camera in range(count):
                if stop.wait(max(0.0, begin_s + number + camera / count - time.monotonic())):
                    return
                packet = replace(whole, frame=number, epoch=1, time_ms=clock_ms())
                topics = Topics("load", f"camera{camera}", "main")
                try:
                    for part in packet.split():
                        link.publish(topics.layer(part.first_layer), part.to_bytes())
                except LinkError:
                    return
                published.append((camera, number))

    try:
        url = receiver.wait_for("ready")["url"]
        address = Address("127.0.0.1", broker.port, user="u", password="p")
        with Connection(address, name="cameras") as link, Page(url, [] if watched == 1 else seen) as page:
            before, began_s = spent_s(receiver.process.pid), time.monotonic()
            others_s = time.process_time() - busy_s()
            film()
            last = published[-1][1]
            receiver.wait_for("picture", lambda event: event["frame"] == last)
            after, took_s = spent_s(receiver.process.pid), time.monotonic() - began_s
            others_s += busy_s() - time.process_time()
        delays = receiver.of("picture", lambda event: event["delay_s"])
        pictures = receiver.of("picture", lambda event: event["drawn"])
        each = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
        others = (others_s - sum(each.values())) / took_s
        own = each.pop(receiver.process.pid) / len(published)  # it takes those too that no decoder had time for
        drawn = sum(each.values()) / len(delays)
        limit = SPARE * CORES / (own + drawn)
        print(
            f"{size_bytes} bytes, {count} streams, {len(seen)} watched: {len(delays)} of {len(published)} decoded, "
            f"{sum(pictures)} drawn, {page.pictures} fetched, delay p50 {np.percentile(delays, 50):.2f} s, "
            f"p95 {np.percentile(delays, 95):.2f} s; a frame costs "
            f"{1000 * drawn:.1f} ms of a decoder and {1000 * own:.1f} ms of the receiver: "
            f"{limit:.0f} streams fill {SPARE:.0%} of {CORES} cores; others took {others:.1f} of them"
        )
        assert limit >= count
        assert sum(pictures) <= max(watched * 1.5, 0.02) * len(delays) + 1  # a look lasts for some seconds
        if len(os.sched_getaffinity(0)) - others >= SPARE * CORES:  # else there was not the time to draw all
            assert len(delays) >= 0.95 * len(published)
    finally:
        stop.set()
        receiver.end()
        broker.kill()

"""How many cameras one receiver draws: real packets of QVGA photographs, one a second and stream, drawn with step 0.

`EDGESEM_STREAMS` (32) and `EDGESEM_SECONDS` (30) say how many and how long. How late pictures are depends on who else
works on the machine, and is printed; so is how many streams two cores could bear by what a picture costs.
"""

import os
import threading
import time
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
from tests.support.edgesem_process import EdgesemProcess
from tests.support.publishing import photo_packet
from tests.support.real_broker import Mosquitto

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to read processor time from"),
]
CORES, SPARE = 2, 0.8
BYTES = (1200, 4000)


def spent_s(root):
    """Processor seconds of a process and its descendants so far: {pid: seconds}."""
    return {pid: use_of([pid]).cpu_s for pid in (root, *descendants_of(root))}


@pytest.mark.parametrize("size_bytes", BYTES)
def test_two_cores_draw_all_streams(tmp_path, size_bytes):
    count, seconds = int(os.environ.get("EDGESEM_STREAMS", "32")), float(os.environ.get("EDGESEM_SECONDS", "30"))
    whole = photo_packet(size_bytes, 320, 240)
    broker = Mosquitto(tmp_path / "broker")
    receiver = EdgesemProcess("receive", "load/+/+", *broker.there, "--workers", CORES, log=tmp_path / "receive.log")
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
        receiver.wait_for("ready")
        with Connection(Address("127.0.0.1", broker.port, user="u", password="p"), name="cameras") as link:
            before, began_s = spent_s(receiver.process.pid), time.monotonic()
            others_s = time.process_time() - busy_s()
            film()
            last = published[-1][1]
            receiver.wait_for("picture", lambda event: event["frame"] == last)
            after, took_s = spent_s(receiver.process.pid), time.monotonic() - began_s
            others_s += busy_s() - time.process_time()
        delays = receiver.of("picture", lambda event: event["delay_s"])
        each = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
        others = (others_s - sum(each.values())) / took_s
        own = each.pop(receiver.process.pid) / len(delays)
        drawn = sum(each.values()) / len(delays)
        limit = SPARE * CORES / (own + drawn)
        print(
            f"{size_bytes} bytes, {count} streams: {len(delays)} of {len(published)} drawn, delay p50 "
            f"{np.percentile(delays, 50):.2f} s, p95 {np.percentile(delays, 95):.2f} s; a picture costs "
            f"{1000 * drawn:.1f} ms of a decoder and {1000 * own:.1f} ms of the receiver: "
            f"{limit:.0f} streams fill {SPARE:.0%} of {CORES} cores; others took {others:.1f} of them"
        )
        assert limit >= count
        if len(os.sched_getaffinity(0)) - others >= SPARE * CORES:  # else there was not the time to draw all
            assert len(delays) >= 0.95 * len(published)
    finally:
        stop.set()
        receiver.end()
        broker.kill()

"""Hours in the life of both daemons: memory stays flat. `EDGESEM_SOAK_MINUTES` says how long, 30 by default.

Each ten seconds a line with the resident memory of sender, receiver, decoder and broker goes to `soak.jsonl`.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.mqtt.mosquitto import find_tool
from tests.support.edgesem_process import EdgesemProcess
from tests.support.real_broker import Mosquitto, draw_pictures

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read memory from"),
]
EVERY_S = 10
MOST_MB, MOST_GROWTH_MB, MOST_STEP_MB = 200, 4, 24


def rss_mb(pid):
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def growth_mb(rows, who):
    """How much it grew in the last two thirds, by a line through each: a leak grows in both, what a start allocates is
    no growth, nor is a single step of the allocator."""
    third = len(rows) // 3
    grew = []
    for part in (rows[third : 2 * third], rows[2 * third :]):
        seconds = np.array([row["seconds"] for row in part])
        slope = np.polyfit(seconds, [row[who] for row in part], 1)[0]
        grew.append(float(slope * (seconds[-1] - seconds[0])))
    return 2 * min(grew)


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.kill()


def test_memory_stays_flat(broker, tmp_path):
    minutes = float(os.environ.get("EDGESEM_SOAK_MINUTES", "30"))
    pictures = draw_pictures(tmp_path / "pictures", size=(160, 128))
    receiver = EdgesemProcess(
        "receive", "home/t/+", *broker.there, "--out", tmp_path / "out", "--as", "none", "--workers", 1,
        log=tmp_path / "receive.log",
    )  # fmt: skip
    receiver.wait_for("ready")
    sender = EdgesemProcess(
        "send", pictures, *broker.there, "--state-dir", tmp_path / "state", "--device", "t", "--loop",
        "--fps", 2, "--promise-every", 20, log=tmp_path / "send.log",
    )  # fmt: skip
    sender.wait_for("acked")
    (decoder,) = children(receiver.process.pid)
    who = {
        "sender": sender.process.pid,
        "receiver": receiver.process.pid,
        "decoder": decoder,
        "broker": broker.process.pid,
    }
    rows, began_s = [], time.monotonic()
    with (tmp_path / "soak.jsonl").open("w", buffering=1) as log:
        while (seconds := time.monotonic() - began_s) < 60 * minutes:
            rows.append({"seconds": round(seconds, 1)} | {name: round(rss_mb(pid), 2) for name, pid in who.items()})
            log.write(json.dumps(rows[-1]) + "\n")
            time.sleep(EVERY_S)
    assert sender.end() == 0
    pictures_shown = len(receiver.of("picture", lambda event: event))
    assert receiver.end() == 0
    for name in who:
        print(f"{name}: {rows[-1][name]:.1f} MB at the end, grew {growth_mb(rows, name):+.2f} MB")
    print(f"{pictures_shown} pictures in {minutes:g} minutes")
    assert max(row["sender"] for row in rows) <= MOST_MB
    assert all(growth_mb(rows, name) <= MOST_GROWTH_MB for name in who)
    assert all(rows[-1][name] - rows[len(rows) // 3][name] <= MOST_STEP_MB for name in who)
    assert pictures_shown > 60 * minutes

"""What goes wrong in the field: an outage, a disk without room, a clock that is set. Real daemons, a real broker."""

import os
import subprocess
import time

import numpy as np
import pytest

from runtime.capture.frame import Frame
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.clock import clock_ms
from tests.support.edgesem_process import EdgesemProcess
from tests.support.real_broker import Mosquitto, draw_pictures
from tests.support.sender_bench import Bench

needs_broker = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.kill()


@pytest.fixture
def send(broker, tmp_path):
    """Starts a sender of small pictures, ten a second."""
    pictures = draw_pictures(tmp_path / "pictures", size=(160, 128))
    (tmp_path / "send.toml").write_text("[broker]\nack_timeout_s = 2\n")
    started = []

    def send(*more):
        common = ("--device", "t", "--fps", 10, "--loop", "--config", tmp_path / "send.toml")
        started.append(EdgesemProcess("send", pictures, *broker.there, *common, *more, log=tmp_path / "send.log"))
        return started[-1]

    yield send
    for process in started:
        process.end()


@needs_broker
@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_the_first_frame_after_an_outage_is_a_new_one(broker, send, tmp_path, seconds):
    receiver = EdgesemProcess("receive", "home/t/+", *broker.there, "--workers", 1, log=tmp_path / "receive.log")
    receiver.wait_for("ready")
    sender = send("--state-dir", tmp_path / "state")
    for _ in range(5):
        sender.wait_for("acked", after=len(sender.events))
    broker.freeze()
    time.sleep(seconds)  # the outage
    before = len(sender.events)
    packed = [event["frame"] for event in sender.events if event["event"] == "packed"]
    broker.thaw()
    first = sender.wait_for("acked", lambda event: event["frame"] > max(packed), after=before)
    print(f"after {seconds} s without a broker the first new frame was {first['delay_s']} s old")
    assert first["delay_s"] <= (0.2 if seconds == 60 else 5)  # the short one also runs where others are busy
    # what had left us before the outage is at most what the window held
    old = {event["frame"] for event in sender.events[before:] if event["event"] == "acked"} & set(packed)
    assert len(old) <= 3
    receiver.end()


@needs_broker
def test_a_full_disk_refuses_promises_and_stops_nothing(broker, send, tmp_path):
    state = tmp_path / "small"
    state.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(state)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("only root can mount a small disk")
    sender = None
    try:
        sender = send("--state-dir", state, "--promise-every", 2)
        sender.wait_for("promised")
        refused = sender.wait_for("refused")

        def was_refused(event):
            return event["frame"] in sender.of("refused", lambda event: event["frame"])

        sender.wait_for("sent", was_refused)  # as an ordinary one; a busy machine may skip some
        sender.wait_for("sent", lambda event: event["frame"] > refused["frame"] and not was_refused(event))
        assert sender.process.poll() is None
        sender.process.terminate()
        assert sender.process.wait(60) == 0
    finally:
        if sender is not None and sender.process.poll() is None:
            sender.process.kill()
            sender.process.wait()
        subprocess.run(["umount", str(state)], check=True)


@pytest.mark.parametrize("jump_s", [-86400, 86400, -1])
def test_a_clock_that_is_set_stops_nothing_and_is_forgotten_with_the_next_frame(jump_s):
    bench = Bench()
    bench.sender.connected()
    try:
        for jump_ms in (0, 1000 * jump_s, 0):
            frame = Frame(np.zeros((64, 64, 3), np.uint8), "f", (clock_ms() + jump_ms) % 2**32)
            bench.sender.offer(frame)
            for _ in range(4):
                part, confirm = bench.next()
                confirm()
                bench.acknowledge(part)
            assert part.time_ms == frame.time_ms
        assert bench.sender.state().age_s < 60
    finally:
        bench.sender.__exit__()

"""Promised frames while broker or sender are killed with -9 at random moments: none is lost, none is shown twice.

Real processes: mosquitto, `edgesem send` and `edgesem receive`. The short version is in every run; the long one kills
each of them a hundred times.
"""

import random
import signal
import time

import pytest

from runtime.mqtt.mosquitto import find_tool
from tests.support.edgesem_process import EdgesemProcess
from tests.support.real_broker import Mosquitto, draw_pictures

LINGER_S = 60
pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


class Bench:
    """Broker, receiver, and the arguments of a sender that promises every picture of a folder."""

    def __init__(self, tmp_path):
        self.tmp = tmp_path
        self.pictures = draw_pictures(tmp_path / "pictures")
        self.broker = Mosquitto(tmp_path / "broker")
        self.there = self.broker.there
        self.promised = []
        out = ("--out", tmp_path / "out", "--workers", 1)
        self.receiver = EdgesemProcess("receive", "home/t/+", *self.there, *out, log=tmp_path / "receive.log")

    def sender(self, *more):
        state = ("--state-dir", self.tmp / "state", "--device", "t", "--promise-every", 1, "--fps", 30)
        return EdgesemProcess("send", self.pictures, *self.there, *state, *more, log=self.tmp / "send.log")

    def note(self, sender):
        self.promised += sender.of("promised", lambda event: (event["epoch"], event["frame"]))

    def settle(self):
        """More senders, with eight more pictures each, until receivers have kept all; each must leave fewer."""
        left = float("inf")
        while left:
            last = self.sender("--linger", LINGER_S)
            assert last.finish() == 0
            self.note(last)
            (now,) = last.of("done", lambda event: event["promised_waiting"])
            assert now < left
            left = now

    def kept(self):
        """Epoch and frame of what the receiver has on its disk."""
        found = (path.stem.split("-") for path in (self.tmp / "out").rglob("promised/*.es"))
        return {(int(epoch), int(frame)) for _, epoch, frame in found}

    def shown(self):
        return self.receiver.of("picture", lambda event: (event["epoch"], event["frame"]))

    def close(self):
        self.receiver.end()
        self.broker.kill()


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


KILLS = [3, pytest.param(100, marks=pytest.mark.long)]


def check(bench, kills, what):
    bench.settle()
    shown = bench.shown()
    lost = set(bench.promised) - bench.kept()
    doubled = len(shown) - len(set(shown))
    print(f"{kills} kills of the {what}: {len(bench.promised)} promised, {len(lost)} lost, {doubled} shown twice")
    assert not lost
    assert not doubled
    assert len(bench.promised) >= 2 * kills


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_broker_loses_no_promised_frame(bench, kills):
    dice = random.Random(kills)
    sender = bench.sender("--loop")
    for _ in range(kills):
        sender.wait_for("kept", after=len(sender.events))
        time.sleep(dice.uniform(0, 0.5))  # the moment is what is tested
        bench.broker.kill()
        bench.broker.start()
    assert sender.end() == 0
    bench.note(sender)
    check(bench, kills, "broker")


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_sender_loses_no_promised_frame(bench, kills):
    dice = random.Random(kills)
    for _ in range(kills):
        sender = bench.sender("--loop")
        sender.wait_for("promised")
        time.sleep(dice.uniform(0, 0.7))  # the moment is what is tested
        sender.end(signal.SIGKILL)
        bench.note(sender)
    check(bench, kills, "sender")

"""What is slow, full or away between a sender and its receivers: real daemons and brokers, frozen and cut for real."""

import signal
import time

import pytest

from runtime.bench.relay import Relay
from runtime.mqtt.mosquitto import find_tool
from tests.support.edgesem_process import EdgesemProcess
from tests.support.real_broker import Mosquitto, draw_pictures

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


class Bench:
    """A broker, and daemons that end with it."""

    def __init__(self, tmp_path, **listening):
        self.tmp = tmp_path
        self.broker = Mosquitto(tmp_path / "broker", **listening)
        self.pictures = draw_pictures(tmp_path / "pictures")
        self.started = []

    def start(self, kind, *args, name):
        self.started.append(EdgesemProcess(kind, *args, log=self.tmp / f"{name}.log"))
        return self.started[-1]

    def receive(self, *more, name="receiver"):
        process = self.start("receive", "home/t/+", *self.broker.there, "--workers", 1, *more, name=name)
        process.wait_for("ready")
        return process

    def send(self, *more, there=None):
        state = ("--state-dir", self.tmp / "state", "--device", "t", "--loop")
        return self.start("send", self.pictures, *(there or self.broker.there), *state, *more, name="sender")

    def close(self):
        for process in self.started:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.end()
        self.broker.kill()


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**listening):
        made.append(Bench(tmp_path, **listening))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def numbers(process, kind, after=0):
    """Epoch and frame of each event of one kind."""
    return [(e["epoch"], e["frame"]) for e in list(process.events)[after:] if e.get("event") == kind]


def all_shown(receiver, promised):
    """Wait until a receiver has drawn each promised frame, let it end, and return what it has drawn in all its life.

    It says that it keeps a frame once that is on its disk, and draws it when a decoder is free: after that.
    """
    for epoch, frame in promised:
        receiver.wait_for("picture", lambda e, which=(epoch, frame): (e["epoch"], e["frame"]) == which)
    assert receiver.end() == 0
    return numbers(receiver, "picture")


def on_disk(folder):
    """Epoch and frame of what a receiver keeps for good."""
    found = (path.stem.split("-") for path in folder.rglob("promised/*.es"))
    return {(int(epoch), int(frame)) for _, epoch, frame in found}


def acked(sender, count, after):
    """Wait until the base layers of so many frames were acknowledged, from event `after` on; their delays."""
    for _ in range(count):
        event = sender.wait_for("acked", lambda e: e["layer"] == 0 and not e["kept"], after=after)
        after = sender.events.index(event, after) + 1
        yield event["delay_s"]


def test_a_receiver_that_does_not_drain_harms_nobody_else(make, tmp_path):
    bench = make(max_queued_bytes=20_000, max_inflight_messages=4)  # so that it is soon full
    good = bench.receive("--out", tmp_path / "out", name="good")
    slow = bench.receive(name="slow")
    sender = bench.send("--fps", 20, "--promise-every", 5)
    before = sorted(acked(sender, 10, after=0))
    slow.process.send_signal(signal.SIGSTOP)
    frozen_at = len(sender.events)
    during = sorted(acked(sender, 40, after=frozen_at))
    print(f"base layers, median: {before[5]} s before, {during[20]} s while a receiver drained nothing")
    assert during[20] <= before[5] + 2  # it drains nothing until all this is over: who waited for it would wait longer
    promised = set(numbers(sender, "promised"))
    assert promised
    slow.process.send_signal(signal.SIGCONT)
    shown_at = len(slow.events)
    newest = max(event["frame"] for event in sender.events if event["event"] in ("packed", "promised"))
    slow.wait_for("picture", lambda event: event["frame"] > newest, after=shown_at)  # it goes on with what is new
    for _, frame in promised:
        sender.wait_for("kept", lambda event, frame=frame: event["frame"] == frame)
    assert promised <= on_disk(tmp_path / "out")
    assert sender.end() == 0
    shown = all_shown(good, promised)
    assert len(shown) == len(set(shown))


@pytest.mark.long  # a promise is sent again after ten seconds
def test_what_a_full_broker_drops_is_sent_again_until_a_receiver_keeps_it(make, tmp_path):
    bench = make(max_queued_bytes=2_000, max_inflight_messages=1)
    receiver = bench.receive("--out", tmp_path / "out")
    sender = bench.send("--fps", 20, "--promise-every", 1)
    sender.wait_for("kept")
    receiver.process.send_signal(signal.SIGSTOP)
    # Everything that is now published and does not fit into the broker's 2 kB is gone, though the broker confirms it.
    stopped_at = len(sender.events)
    for _ in range(12):
        stopped_at = sender.events.index(sender.wait_for("sent", after=stopped_at), stopped_at) + 1
    promised = set(numbers(sender, "promised"))
    receiver.process.send_signal(signal.SIGCONT)
    for _, frame in promised:
        sender.wait_for("kept", lambda event, frame=frame: event["frame"] == frame)
    sent = [event["frame"] for event in sender.events if event["event"] == "sent"]
    again = {frame for frame in sent if sent.count(frame) > 1}
    print(f"{len(promised)} promised, {len(again)} of them sent more than once")
    assert again  # the broker really had dropped some
    assert sender.end() == 0
    shown = all_shown(receiver, promised)
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long)])
def test_a_link_that_is_cut_costs_what_was_taken_meanwhile_and_no_promise(make, tmp_path, seconds):
    bench = make()
    receiver = bench.receive("--out", tmp_path / "out")
    with Relay(target=("127.0.0.1", bench.broker.port), rate_bps=1e6) as relay:
        there = ("--port", relay.port, *bench.broker.there[2:])
        sender = bench.send("--fps", 5, "--promise-every", 5, there=there)
        list(acked(sender, 3, after=0))
        relay.cut()
        time.sleep(seconds)  # the outage
        mended_at = len(sender.events)
        made = max(event["frame"] for event in sender.events if event["event"] in ("packed", "promised"))
        relay.mend()
        first = sender.wait_for("acked", lambda event: event["frame"] > made and not event["kept"], after=mended_at)
        print(f"after {seconds} s the first new frame was {first['delay_s']} s old")
        assert first["delay_s"] <= 5  # that of a frame from before or during the outage would be more
        promised = set(numbers(sender, "promised"))
        for _, frame in promised:
            sender.wait_for("kept", lambda event, frame=frame: event["frame"] == frame)
        assert promised <= on_disk(tmp_path / "out")
        assert sender.end() == 0
    shown = all_shown(receiver, promised)
    assert len(shown) == len(set(shown))

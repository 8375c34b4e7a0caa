"""A sender on demand (`edgesem send --live on-demand`) at a real broker: thumbnails until somebody watches."""

import json
import signal
import time
import urllib.error
import urllib.request

import pytest

from edgesem.packet.keys import new_key
from edgesem.packet.packet import Packet
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from tests.support.delay_line import DelayLine
from tests.support.edgesem_process import EdgesemProcess
from tests.support.publishing import wait_for
from tests.support.real_broker import Mosquitto, draw_pictures

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
TOPICS = Topics("home", "t", "main")
LEASE_S = 3


class Ear:
    """Hears all that goes over one stream's topics."""

    def __init__(self, broker):
        self.packets, self.states, self.bytes = [], [], []
        self.connection = Connection(
            Address("127.0.0.1", broker.port, user="u", password="p"),
            name="ear",
            subscribe=f"{TOPICS.base}/#",
            on_message=self._hear,
        )

    def _hear(self, topic, payload):
        self.bytes.append((topic.removeprefix(f"{TOPICS.base}/"), len(topic) + len(payload)))
        if topic == TOPICS.state:
            self.states.append(State.from_bytes(payload))
        elif "/pkt/" in topic:
            self.packets.append(Packet.from_bytes(payload))

    def layers(self, frame):
        """How many layers of a frame have come."""
        return sum(len(packet.chunks) for packet in list(self.packets) if packet.frame == frame)

    def wait_for_state(self, live, after=None):
        """The first state that says so, after that one if it is given."""
        known = 0 if after is None else 1 + next(place for place, one in enumerate(self.states) if one is after)
        return wait_for(lambda: next((state for state in list(self.states)[known:] if state.live == live), None))

    def watch(self, lease_s, number=1):
        self.connection.publish(TOPICS.cmd, Command("view", viewer=number, lease_s=lease_s).to_bytes())


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.kill()


@pytest.fixture
def camera(tmp_path, broker):
    """Starts an `edgesem send --live on-demand`, and ends it."""
    pictures, senders = draw_pictures(tmp_path / "pictures", count=3, size=(320, 240)), []

    def start(*args):
        common = ("--device", "t", "--loop", "--live", "on-demand", "--state-dir", tmp_path / "state")
        senders.append(EdgesemProcess("send", pictures, *broker.there, *common, *args, log=tmp_path / "send.log"))
        return senders[-1]

    yield start
    for sender in senders:
        sender.end()


@pytest.fixture
def start_sealed(tmp_path, broker, camera):
    """Starts a sealed sender and a receiver with a page: both, and the page's address."""
    receivers = []

    def start(*args):
        key = tmp_path / "key"
        new_key(key)
        sealed = ("--seal-key-file", key)
        sender = camera(*args, *sealed)
        flags = ("--http", 0, "--workers", 1, "--state-dir", tmp_path / "receiver")
        receivers.append(EdgesemProcess("receive", *broker.there, *flags, *sealed, log=tmp_path / "receive.log"))
        return sender, receivers[0], receivers[0].wait_for("ready")["url"]

    yield start
    for receiver in receivers:
        receiver.end(signal.SIGKILL)


@pytest.fixture
def ear(broker):
    ear = Ear(broker)
    with ear.connection:
        yield ear


def test_a_whole_picture_comes_at_once_when_somebody_watches_and_none_after_his_lease(camera, ear):
    camera("--fps", 0.02, "--idle-every", 3600)
    wait_for(lambda: ear.packets)
    assert ear.wait_for_state("idle").interval_s == 300
    asked_s = time.monotonic()
    ear.watch(600)
    first = ear.packets[0].frame
    wait_for(lambda: ear.layers(first + 1) == 4)
    assert time.monotonic() - asked_s < 45, "the next frame would have been due in fifty seconds"
    assert ear.layers(first) == 1
    watched = ear.wait_for_state("watched")
    assert watched.interval_s == 10
    leased_s = time.monotonic()
    ear.watch(LEASE_S)
    assert ear.wait_for_state("idle", after=watched).interval_s == 300
    assert time.monotonic() - leased_s > LEASE_S
    assert {packet.frame for packet in ear.packets} == {first, first + 1}


def test_while_one_of_several_watches_pictures_go_on(camera, ear):
    camera("--fps", 5, "--idle-every", 3600)
    ear.wait_for_state("idle")
    for number in (1, 2, 3):
        ear.watch(600, number)
    watched = ear.wait_for_state("watched")
    ear.watch(0, number=1)
    ear.watch(0, number=3)
    so_far = len(ear.packets)
    wait_for(lambda: len({packet.frame for packet in ear.packets[so_far:]}) > 8)
    assert all(state.live == "watched" for state in ear.states[ear.states.index(watched) :])
    ear.watch(0, number=2)
    ear.wait_for_state("idle", after=watched)
    thumbnail = wait_for(lambda: ear.packets[-1].frame)
    assert ear.layers(thumbnail) <= 4


def test_a_whole_picture_is_there_a_round_trip_after_the_viewer(tmp_path, broker, ear):
    one_way_s = 0.75
    with DelayLine(("127.0.0.1", broker.port), one_way_s) as far:
        there = ("--port", far.port, *broker.there[2:])
        common = ("--device", "t", "--loop", "--live", "on-demand", "--state-dir", tmp_path / "state", "--fps", 0.02)
        pictures = draw_pictures(tmp_path / "pictures", count=1, size=(320, 240))
        sender = EdgesemProcess("send", pictures, *there, *common, "--idle-every", 3600, log=tmp_path / "send.log")
        try:
            wait_for(lambda: ear.packets)
            idle = ear.wait_for_state("idle")
            for _ in range(10):  # on a busy machine, coding alone may take the time of a round trip
                known = ear.packets[-1].frame
                asked_s = time.monotonic()
                ear.watch(600)
                wait_for(lambda known=known: ear.layers(known + 1) == 4)
                took_s = time.monotonic() - asked_s
                if took_s < 4 * one_way_s:
                    break
                ear.watch(0)
                idle = ear.wait_for_state("idle", after=ear.wait_for_state("watched", after=idle))
        finally:
            sender.end()
    assert 2 * one_way_s <= took_s < 4 * one_way_s, "a round trip, and less than two"


def test_snapshots_and_promised_frames_go_though_nobody_watches(tmp_path, camera, ear):
    camera("--fps", 4, "--idle-every", 3600, "--promise-every", 8)
    wait_for(lambda: sum(packet.promised for packet in list(ear.packets)) >= 3)
    ear.connection.publish(TOPICS.cmd, Command("snapshot", size_bytes=2222).to_bytes())
    wait_for(lambda: any(packet.promised and packet.size_bytes > 1500 for packet in list(ear.packets)))
    ordinary = {packet.frame: len(packet.chunks) for packet in ear.packets if not packet.promised}
    assert list(ordinary.values()) == [1]
    assert all(state.live == "idle" for state in ear.states)


@pytest.mark.long
def test_who_looks_at_a_receivers_page_wakes_the_camera_of_a_sealed_stream(start_sealed):
    sender, receiver, url = start_sealed("--fps", 5, "--idle-every", 3600)
    wait_for(lambda: stream_of(url) is not None and stream_of(url)["state"])
    assert not sender.of("state", lambda state: state["live"] == "watched").count(True)
    wait_for(lambda: (one := stream_of(url, "&view=home/t/main")) and (one["picture"] or {}).get("layers") == 4)
    assert stream_of(url, "&view=home/t/main")["viewed"]
    number = len(sender.events)
    sender.wait_for("state", lambda state: state["live"] == "idle", after=number)  # nobody has asked for 5 s
    assert not stream_of(url)["viewed"]
    body = json.dumps({"stream": "home/t/main", "roi": [0.5, 0.5, 0.2, 0.2]}).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:  # this sender keeps no full pictures
        urllib.request.urlopen(urllib.request.Request(f"{url}detail", body, {"Content-Type": "application/json"}))
    assert refused.value.code == 409
    with urllib.request.urlopen(f"{url}home/t/main.mjpg") as video:
        number = len(sender.events)
        sender.wait_for("state", lambda state: state["live"] == "watched", after=number)
        assert video.read(1000)
        receiver.process.kill()  # says nothing any more
        number = len(sender.events)
        sender.wait_for("state", lambda state: state["live"] == "idle", after=number)


def stream_of(url, more=""):
    """What the receiver says of its stream."""
    with urllib.request.urlopen(f"{url}streams.json?samples={more}") as answer:
        found = json.load(answer)["streams"]
    return found[0] if found else None

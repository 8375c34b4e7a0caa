"""Looking back over HTTP: times and pictures of the archive, and what else may be asked of a sender."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgesem.errors import PacketError, UsageError
from runtime.mqtt.loopback_broker import Broker
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.receiver.archive import Archive
from runtime.web.asks import KINDS, command_of
from runtime.web.look_back import MOST_TIMES
from runtime.web.look_back import times as times_of
from tests.support.publishing import DEADLINE_S, frame, plain
from tests.support.real_broker import needs_mosquitto
from tests.support.receive_daemon import Camera, ReceiveDaemon
from tests.support.web_client import ask, post

pytestmark = needs_mosquitto
NOW_S = float(int(time.time()))
GATE = "test/gate/main"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A camera, and a receiver that has kept a picture of it every ten minutes of the last day but for six hours."""
    out = tmp_path_factory.mktemp("received")
    with Archive(out) as archive:
        for number in range(144):
            captured_s = NOW_S - 86400 + 600 * number
            if not 50 <= number < 86:
                packet = replace(frame(number, promised=number == 10), time_ms=ms(captured_s) % 2**32)
                archive.add(GATE, packet, captured_s)
        archive.add("test/old/main", plain(0, bundle_id=1), NOW_S - 3600)
    with (
        Broker(kind="mosquitto") as broker,
        Camera(broker, "gate") as camera,
        ReceiveDaemon(broker, "test/+/+", "--http", "0", "--out", str(out), "--stamp", "bar") as daemon,
    ):
        camera.send_until_heard(1000)
        daemon.next("picture")
        state = State(True, 1, 0, interval_s=300.0)  # it is not silent before these tests end
        camera.connection.publish(camera.topics.state, state.to_bytes())
        yield camera, daemon


def ms(seconds):
    return round(seconds * 1000)


def times(daemon, since_s, until_s, count, stream=GATE):
    query = f"stream={stream}&since={ms(since_s)}&until={ms(until_s)}&count={count}"
    status, _, body = ask(f"{daemon.url}archive.json?{query}")
    assert status == 200
    return json.loads(body)["frames"]


def test_the_times_of_a_day_are_those_of_the_first_picture_of_each_part(served):
    _, daemon = served
    assert json.loads(ask(f"{daemon.url}streams.json")[2])["archive"]
    found = times(daemon, NOW_S - 86400, NOW_S, 144)
    assert [one["time_ms"] for one in found] == [
        ms(NOW_S - 86400 + 600 * number) for number in range(144) if not 50 <= number < 86
    ]
    assert [one["promised"] for one in found].index(True) == 10
    assert len(times(daemon, NOW_S - 86400, NOW_S, 24)) == 19
    assert times(daemon, NOW_S - 86400, NOW_S, 24, "test/none/main") == []


def test_an_archived_picture_says_when_it_was_captured(served):
    _, daemon = served
    for at_s, captured_s in ((NOW_S - 600, NOW_S - 600), (NOW_S - 86400 + 30_300, NOW_S - 86400 + 29_400)):
        status, headers, body = ask(f"{daemon.url}{GATE}.jpg?at={ms(at_s)}&near=300000")
        assert (status, float(headers["X-Timestamp"])) == (200, captured_s)
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (160, 112)
            image.load()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{GATE}.jpg?at=0", 404),
        ("test/none/main.jpg?at=9999999999999", 404),
        ("test/old/main.jpg?at=9999999999999", 400),  # of a bundle that is not here
        (f"{GATE}.jpg?at=", 400),
        (f"{GATE}.jpg?at=-1", 400),
        (f"{GATE}.jpg?at=1e9", 400),
        (f"{GATE}.jpg?at={'9' * 5000}", 400),
        (f"{GATE}.jpg?at=0&near=999999999999", 400),
        ("archive.json", 400),
        (f"archive.json?stream={GATE}&since=5&until=5&count=1", 400),
        (f"archive.json?stream={GATE}&since=0&until=5&count=601", 400),
        (f"archive.json?stream={GATE}&since=0&until=5&count=0", 400),
    ],
)
def test_what_cannot_be_is_an_error(served, path, status):
    _, daemon = served
    told, _, answer = ask(f"{daemon.url}{path}")
    assert told == status
    assert answer["error"]


def test_many_who_look_back_do_not_hold_up_live_pictures(served):
    """More than may wait are told to come again, and a live picture comes meanwhile."""
    camera, daemon = served
    daemon.skip()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, f"{daemon.url}{GATE}.jpg?at={ms(NOW_S - 600 * n)}") for n in range(1, 40)]
        camera.send(frame(2000))
        assert daemon.next("picture")["frame"] == 2000
        told = [one.result()[0] for one in answers]
    assert set(told) <= {200, 503}
    assert told.count(200) >= 8


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow, not wrong
@given(st.dictionaries(st.sampled_from(["kind", "box", "drop", "pause_s", "label"]), ANYTHING | st.sampled_from(KINDS)))
def test_whatever_is_asked_becomes_a_command_that_can_be_sent_or_an_error(asked):
    try:
        command = command_of(asked)
    except (UsageError, PacketError):
        return
    assert Command.from_bytes(command.to_bytes()).kind == asked["kind"]


def test_an_event_is_asked_for_with_its_label_or_without():
    assert command_of({"kind": "event", "label": "door bell"}).label == "door bell"
    assert command_of({"kind": "event"}).label == ""
    for label in (7, "two\nlines", "x" * 101, "\ud800"):
        with pytest.raises((UsageError, PacketError)):
            command_of({"kind": "event", "label": label})


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow, not wrong
@given(st.dictionaries(st.sampled_from(["stream", "since", "until", "count"]), st.lists(st.text(), min_size=1)))
def test_whatever_times_are_asked_for_they_are_bounded_or_an_error(asked):
    archive = SimpleNamespace(
        spread=lambda stream, since_s, until_s, count: spans.append((since_s, until_s, count)) or []
    )
    spans = []
    try:
        times_of(SimpleNamespace(archive=archive), asked)
    except UsageError:
        return
    assert all(0 <= since_s < until_s and 1 <= count <= MOST_TIMES for since_s, until_s, count in spans)


def test_a_sender_is_asked_for_what_the_page_offers(served):
    camera, daemon = served
    url = f"{daemon.url}ask"
    asked = [
        (
            {"kind": "region", "box": [0.25, 0.2, 0.5, 0.5], "drop": 60},
            Command("region", 1, roi=(0.25, 0.2, 0.5, 0.5), drop=60),
        ),
        ({"kind": "region"}, Command("region", 1, drop=0)),
        ({"kind": "roi", "box": [0, 0, 1, 0.5]}, Command("roi", 1, roi=(0.0, 0.0, 1.0, 0.5))),
        ({"kind": "roi", "box": None}, Command("roi", 1)),
        ({"kind": "pause", "pause_s": 60}, Command("pause", 1, pause_s=60.0)),
        ({"kind": "resume"}, Command("resume", 1)),
        ({"kind": "key"}, Command("key", 1)),
        ({"kind": "budget", "max_bytes": 3000}, Command("budget", 1, max_bytes=3000)),
        (
            {"kind": "budget", "max_rate_bps": 8000, "max_bytes": 0},
            Command("budget", 1, max_bytes=0, max_rate_bps=8000),
        ),
    ]
    while not camera.commands.empty():
        camera.commands.get()
    for what, expected in asked:
        assert post(url, stream=GATE, **what)[0] == 202
        while (command := Command.from_bytes(camera.commands.get(timeout=DEADLINE_S))).kind == "view":
            pass
        assert replace(command, id=1) == expected
    for wrong in (
        {"kind": "bundle"},
        {"kind": ["roi"]},
        {},
        {"kind": "roi", "box": [0, 0, 2, 1]},
        {"kind": "roi", "box": [0, 0, 1]},
        {"kind": "roi", "box": [0, 0, True, 1]},
        {"kind": "roi", "box": "0,0,1,1"},
        {"kind": "region", "box": [0, 0, 1, 1], "drop": 1000},
        {"kind": "region", "box": [0, 0, 1, 1], "drop": "90"},
        {"kind": "pause", "pause_s": -1},
        {"kind": "pause", "pause_s": 1e9},
        {"kind": "budget"},
        {"kind": "budget", "max_bytes": None},
        {"kind": "budget", "max_bytes": 255},
        {"kind": "budget", "max_bytes": "3000"},
        {"kind": "budget", "max_bytes": 3000, "max_rate_bps": True},
        {"kind": "budget", "max_rate_bps": 1e4},
    ):
        assert post(url, stream=GATE, **wrong)[0] == 400, wrong
    assert post(url, stream="test/none/main", kind="key")[0] == 404

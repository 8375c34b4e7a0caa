"""`edgesem send --once`: one wake against a real broker, with a receiver, without one, and without a broker."""

import json
import subprocess
import sys

import pytest

from edgesem.codec.codec import load
from runtime.capture.privacy_mask import FILL
from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import WAIT_S, EdgesemProcess, free_port
from tests.support.real_broker import draw_pictures
from tests.support.receive_daemon import ReceiveDaemon
from tests.support.viewer import Viewer

TOPICS = Topics("home", "t", "main")
LEFT = 4
pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


@pytest.fixture
def wake(broker, tmp_path):
    """Runs one wake of a camera that shows a looped folder, and returns its exit code and its events."""
    pictures = draw_pictures(tmp_path / "pictures")
    password = tmp_path / "password"
    password.write_text(broker.address.password)
    password.chmod(0o600)
    there = ("--port", broker.address.port, "--user", broker.address.user, "--password-file", password)

    def wake(*more, there=there, meanwhile=lambda: None, loop=("--loop",), state="state"):
        about = ("--device", "t", "--fps", 20, *loop, "--state-dir", tmp_path / state)
        process = EdgesemProcess("send", pictures, *about, *there, *more, log=tmp_path / "send.log")
        try:
            meanwhile()
        except BaseException:
            process.end()
            raise
        return process.finish(), process

    return wake


def once(process):
    (told,) = process.of("once", lambda event: event)
    return told


def late(wake, come_so_far, *more, **about):
    """A wake whose deadline passes, late enough for `come_so_far(told)`, also on a busy machine: its exit code, what it
    has told, and the name of its state folder."""
    for deadline_s in (8, 30, WAIT_S):
        state = f"state{deadline_s}"
        code, process = wake(*more, "--deadline", deadline_s, state=state, **about)
        if come_so_far(once(process)):
            break
    return code, once(process), state


def test_the_newest_picture_goes_to_a_receiver_and_the_wake_ends(broker, wake):
    with ReceiveDaemon(broker, "home/t/+") as daemon:
        code, process = wake("--once")
        shown = daemon.next("picture")
    told = once(process)
    assert (code, told["left"], told["taken"]) == (0, 0, 1)
    assert len(process.of("packed", lambda event: event)) == 1
    assert not shown["promised"]
    in_order = [told[f"{name}_s"] for name in ("program", "ready", "first_byte", "received")]
    assert in_order == sorted(in_order)
    assert 0 < told["program_s"] < told["received_s"] < WAIT_S


def test_promised_frames_stay_on_the_disk_without_a_receiver_and_the_next_wake_brings_them(broker, wake, tmp_path):
    code, told, state = late(wake, lambda told: told["promised_waiting"] == 3, "--frames", 3, "--promise-every", 1)
    assert (code, told["left"], told["taken"], told["promised_waiting"]) == (LEFT, 3, 3, 3)
    with ReceiveDaemon(broker, "home/t/+", "--out", str(tmp_path / "out")):
        code, process = wake("--once", "--promise-every", 1, state=state)
        told = once(process)
    assert (code, told["left"], told["promised_waiting"]) == (0, 0, 0)
    assert len(list((tmp_path / "out").rglob("*.es"))) == 4


def test_a_folder_with_fewer_pictures_than_asked_for_is_no_failure(broker, wake):
    with ReceiveDaemon(broker, "home/t/+"):
        code, process = wake("--frames", 100, loop=())
    told = once(process)
    assert (code, told["left"]) == (0, 0)
    assert 1 <= told["taken"] <= 8


def test_an_ordinary_picture_that_no_receiver_has_is_left_and_said_so(wake):
    code, told, _ = late(wake, lambda told: "first_byte_s" in told, "--once")
    assert (code, told["left"], told["taken"]) == (LEFT, 1, 0)
    assert "first_byte_s" in told
    assert "received_s" not in told


def test_without_a_broker_it_ends_at_the_deadline_and_says_why(wake):
    code, told, _ = late(wake, lambda told: told["trouble"], "--once", there=("--port", free_port()))
    assert (code, told["left"]) == (LEFT, 1)
    assert told["trouble"]
    assert "connected_s" not in told


def test_what_a_wake_has_cost_counts_in_the_data_budget_also_after_a_restart(broker, wake):
    spent = []
    with ReceiveDaemon(broker, "home/t/+"):
        for _ in range(2):
            code, process = wake("--once", "--data-month", 5000)  # also at the month's begin, no frame waits for credit
            assert code == 0
            (done,) = process.of("done", lambda event: event)
            spent.append(done["data"]["spent_bytes"])
            assert done["data"]["left_bytes"] <= 5_000_000_000 - spent[-1]
            assert done["interval_s"] == 300  # receivers do not take it for dead before
    assert 2000 < spent[0] < 30_000
    assert spent[1] > spent[0] + 2000


def test_a_person_reads_one_line_of_what_is_left(tmp_path):
    pictures = draw_pictures(tmp_path / "pictures", count=2)
    about = ("--once", "--promise-every", "1", "--port", str(free_port()))
    for deadline_s in (8, 30, WAIT_S):  # on a busy machine, nothing may be taken before the first
        own = ("--deadline", str(deadline_s), "--state-dir", str(tmp_path / f"state{deadline_s}"))
        argv = [sys.executable, "-m", "edgesem", "send", str(pictures), *about, *own]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=2 * WAIT_S)
        assert ended.returncode == LEFT
        if "0 frames taken" not in ended.stderr:
            break
    assert "1 frames taken, 1 left, 1 of them on the disk (" in ended.stderr


def test_a_masked_sender_hides_the_area_in_ordinary_and_promised_frames_and_says_so(broker, wake, tmp_path):
    mask = tmp_path / "mask.toml"
    mask.write_text("[[area]]\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\n")
    viewer, codec = Viewer(broker.address, TOPICS), load()

    def look():
        while (packet := viewer.packet()).first_layer:
            pass  # the rest of the frame before
        drawn = codec.synthesize(codec.unpack(packet))
        assert drawn.std() < 10  # flat; that of the pictures is 60
        assert abs(drawn.mean() - FILL) < 20
        viewer.keep(packet)

    with viewer.connection:
        assert wake("--once", "--mask", mask, meanwhile=look)[0] == 0
        assert wake("--once", "--promise-every", 1, "--mask", mask, meanwhile=look)[0] == 0
    late = Viewer(broker.address, TOPICS)
    with late.connection:
        assert State.from_bytes(late.next("state")).masked


def test_a_mask_that_fails_to_load_stops_the_sender_and_nothing_goes(broker, wake, tmp_path):
    viewer = Viewer(broker.address, Topics("home", "t", "main"))
    with viewer.connection:
        code, process = wake("--mask", tmp_path / "none.toml")
        assert code == 1
        (tmp_path / "broken.toml").write_text("[[area]]\npoints = 3\n")
        code, process = wake("--mask", tmp_path / "broken.toml")
        assert code == 2
        assert json.dumps(process.events).count("ready") == 0
        viewer.say(TOPICS.ack, Ack(0, 0, 0, clock_ms(), 0).to_bytes())
        topic, _ = viewer.messages.get(timeout=WAIT_S)  # our own word is the first that comes
        while topic in (TOPICS.state, TOPICS.birth):  # retained by earlier tests
            topic, _ = viewer.messages.get(timeout=WAIT_S)
        assert topic == TOPICS.ack

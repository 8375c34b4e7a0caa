"""`edgesem ask`: what a running sender does when it is asked, over a real broker, and what it does not obey."""

import json
import re
import signal
import time

import pytest

from edgesem.cli import main as cli
from edgesem.packet.keys import new_key
from runtime.cli import ask_client
from tests.support.edgesem_process import EdgesemProcess
from tests.support.real_broker import Mosquitto, draw_pictures, needs_mosquitto

pytestmark = needs_mosquitto
STREAM = "home/t/main"


@pytest.fixture
def bench(tmp_path):
    """A sealed stream of pictures that goes on and on: its sender, and what an `ask` must say to reach it."""
    broker = Mosquitto(tmp_path / "broker")
    new_key(tmp_path / "seal.key")
    there = (*broker.there, "--seal-key-file", tmp_path / "seal.key")
    pictures = draw_pictures(tmp_path / "pictures")
    state = ("--state-dir", tmp_path / "state", "--device", "t", "--fps", 10, "--loop")
    sender = EdgesemProcess("send", pictures, *there, *state, log=tmp_path / "send.log")
    sender.wait_for("sent")
    yield sender, there
    sender.end()
    broker.kill()


def ask(capsys, *args):
    """Exit code of `edgesem ask ...`, and its JSON if that was 0."""
    code = cli.main(["ask", *map(str, args), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if code == 0 else None


def test_a_sender_does_what_it_is_asked(bench, capsys):
    sender, there = bench

    def asked(kind, *args):
        began = len(sender.events)
        assert ask(capsys, kind, STREAM, *args, *there) == (0, {"stream": STREAM, "asked": kind})
        sender.wait_for("asked", lambda event: event["kind"] == kind, after=began)
        return began

    began = asked("snapshot", "--bytes", 1500)
    frame = sender.wait_for("promised", after=began)["frame"]
    packed = sender.wait_for("packed", lambda event: event["frame"] == frame, after=began)
    assert packed["size_bytes"] <= 1500
    assert packed["refers_to"] is None
    asked("key")
    asked("roi", "0.0,0.0,0.9,0.9")
    asked("roi", "off")
    began = asked("region", "0.25,0.25,0.5,0.5", "--drop", 60)
    sender.wait_for("packed", after=began)
    began = asked("budget", "--max-bytes", 700, "--max-rate-bps", 20_000)
    told = sender.wait_for("state", lambda event: event["max_bytes"] == 700, after=began)
    assert told["max_rate_bps"] == 20_000
    packed = sender.wait_for("packed", after=sender.events.index(told) + 1)
    assert packed["budget_bytes"] <= 700
    began = asked("budget", "--max-bytes", 0, "--max-rate-bps", 0)
    sender.wait_for("state", lambda event: event["max_bytes"] == 30_000, after=began)
    began = asked("pause")
    sender.wait_for("state", lambda event: event["paused"], after=began)
    began = asked("resume")
    sender.wait_for("state", lambda event: not event["paused"], after=began)
    sender.wait_for("sent", after=began)


def test_who_has_not_the_key_is_not_obeyed_and_who_asks_wrongly_is_told(bench, capsys):
    sender, there = bench
    began = len(sender.events)
    assert ask(capsys, "pause", STREAM, *there[:-2])[0] == 0  # the broker took it
    assert ask(capsys, "key", STREAM, *there)[0] == 0
    sender.wait_for("asked", lambda event: event["kind"] == "key", after=began)
    assert not [event for event in sender.events if event.get("kind") == "pause"]
    assert ask(capsys, "snapshot", STREAM, "--bytes", 9, *there)[0] == 2
    assert ask(capsys, "budget", STREAM, *there)[0] == 2
    assert ask(capsys, "budget", STREAM, "--max-bytes", 100, *there)[0] == 2
    assert ask(capsys, "roi", STREAM, "0.5,0.5,0.9,0.9", *there)[0] == 2
    assert ask(capsys, "roi", STREAM, "10,10,50,50", *there)[0] == 2
    assert ask(capsys, "pause", "home/t", *there)[0] == 2
    assert ask(capsys, "pause", STREAM, "--port", 1, "--user", "u", *there[4:])[0] == 1


def test_who_asks_nobody_is_told(bench, capsys, monkeypatch):
    sender, there = bench
    monkeypatch.setattr(ask_client, "_STATE_S", 0.5)
    began = time.monotonic()
    assert why(capsys, "key", "home/tt/main", *there[:-2]) == f"no sender of home/tt/main is known: known are {STREAM}"
    assert time.monotonic() - began < 60
    sender.end(signal.SIGKILL)  # its last will says so
    for _ in range(20):
        words = why(capsys, "key", STREAM, *there)
        if words is not None:
            break
    assert words.startswith(f"the sender of {STREAM} is not connected")


def test_a_sender_that_was_stopped_is_not_asked(bench, capsys):
    sender, there = bench
    assert sender.end() == 0
    assert why(capsys, "snapshot", STREAM, *there).startswith(f"the sender of {STREAM} is not connected")


def why(capsys, *args):
    """What a failed `edgesem ask ...` says, without the broker's address; None if it did not fail."""
    code = cli.main(["ask", *map(str, args), "--json"])
    out = json.loads(capsys.readouterr().out)
    assert code == (1 if "error" in out else 0)
    return re.sub(r" at [0-9.]+:[0-9]+", "", out["error"]["message"]) if "error" in out else None

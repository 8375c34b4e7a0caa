"""Events from end to end: a real broker, sender and receiver, by command and by change; clip, messages, hooks, list."""

import http.server
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import av
import numpy as np
import pytest
from PIL import Image

from runtime.capture.frame import PHOTOS
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import WAIT_S, edgesem_processes, free_port
from tests.support.publishing import wait_for

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
STREAM = "home/gate/main"


@pytest.fixture
def start(tmp_path):
    """Starts commands and ends them."""
    with edgesem_processes() as start:
        yield lambda name, *args: start(*args, log=tmp_path / f"{name}.log")


@pytest.fixture
def broker(tmp_path):
    """mosquitto without passwords, on loopback: its port."""
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
    with subprocess.Popen([find_tool("mosquitto"), "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: listens(port))
        yield port
        process.terminate()


def listens(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def webhook():
    """A local server: its URL, and the events and pictures that were posted to it."""
    came = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            came.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/hook", came
        running.shutdown()
        thread.join()


@contextmanager
def event_messages(port):
    """What is published on the topics `event`."""
    came = queue.Queue()

    def take(topic, payload):
        came.put((topic, json.loads(payload)))

    with Connection(Address("127.0.0.1", port), name="x", subscribe="edgesem/v1/+/+/+/event", on_message=take):
        yield came


def photo(number, size=(160, 112)):
    with Image.open(sorted(PHOTOS.glob("*.jpg"))[number]) as image:
        return image.convert("RGB").resize(size)


def folder_of(tmp_path, images):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number:04d}.png")
    return folder


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=WAIT_S) as answer:
        return answer.status, dict(answer.headers), answer.read()


def test_an_event_by_command_has_its_past_and_is_told_in_every_way(start, broker, webhook, tmp_path):
    url, posted = webhook
    hook, told = tmp_path / "hook.sh", tmp_path / "hook.txt"
    hook.write_text(f'#!/bin/sh\necho "$EDGESEM_EVENT_PHASE $EDGESEM_EVENT_LABEL $1" >> {told}\n')
    hook.chmod(0o755)
    http_port, where = free_port(), ("--host", f"127.0.0.1:{broker}")
    out = tmp_path / "out"
    with event_messages(broker) as messages:
        hooks = ("--on-event-command", f"{hook} 'a b'", "--on-event-webhook", url)
        more = ("--out", out, "--state-dir", tmp_path / "r", "--http", http_port, "--workers", 1)
        receiver = start("receive", "receive", STREAM, *where, *more, *hooks)
        receiver.wait_for("ready")
        pictures = folder_of(tmp_path, [photo(number % 3) for number in range(30)])
        events = ("--events", "--event-before", "2s", "--event-after", "2s", "--event-fps", 4)
        names = ("--device", "gate", "--state-dir", tmp_path / "s")
        sender = start("send", "send", pictures, "--loop", "--fps", 10, *names, *where, *events)
        receiver.wait_for("picture")
        sender.wait_for("packed", lambda event: event["frame"] > 25)
        asked = [sys.executable, "-m", "edgesem", "ask", "event", STREAM, *where, "--label", "door $(bell)"]
        subprocess.run(asked, check=True, stdout=subprocess.DEVNULL, timeout=WAIT_S)
        begun = sender.wait_for("event_begun")
        assert (begun["cause"], begun["label"]) == ("ask", "door $(bell)")
        count = sender.wait_for("event_ended")["frames"]
        assert 4 <= count <= 20  # about 16; a busy machine leaves some out
        first = messages.get(timeout=WAIT_S)
        assert first[0] == f"edgesem/v1/{STREAM}/event"
        assert (first[1]["v"], first[1]["phase"], first[1]["clip"]) == (1, "begun", None)
        last = messages.get(timeout=WAIT_S)[1]
        assert (last["phase"], last["frames"], last["missing"], last["id"]) == ("complete", count, 0, begun["id"])
        assert -2.1 <= last["first_s"] < 0
        assert 0 < last["last_s"] <= 2.1
        shown = receiver.wait_for("event", lambda event: event["phase"] == "complete")
        assert {key: shown[key] for key in ("id", "frames", "clip")} == {
            key: last[key] for key in ("id", "frames", "clip")
        }

        forms = [posted.get(timeout=WAIT_S) for _ in range(2)]
        assert [b'"phase": "begun"' in form for form in forms] == [True, False]
        assert all(b"\xff\xd8\xff" in form for form in forms)  # a JPEG file
        assert sender.end() == 0
        page = f"http://127.0.0.1:{http_port}"
        (listed,) = json.loads(get(f"{page}/events?stream={STREAM}&limit=5")[2])["events"]
        assert listed == {key: value for key, value in last.items() if key not in ("v", "time")}
        clip = get(f"{page}/{listed['clip']}")
        assert (clip[0], clip[1]["Content-Type"], clip[1]["Accept-Ranges"]) == (200, "video/mp4", "bytes")
        part = get(f"{page}/{listed['clip']}", {"Range": "bytes=4-7"})
        assert (part[0], part[1]["Content-Range"], part[2]) == (206, f"bytes 4-7/{len(clip[2])}", b"ftyp")
        for name in ("picture", "sheet"):
            assert get(f"{page}/{listed[name]}")[2].startswith(b"\xff\xd8\xff")
        for wrong in ("events?limit=0", "events?before=x", "events/home/gate/main/00000000.mp4", f"{listed['clip']}x"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(f"{page}/{wrong}")
            with refused.value:
                assert refused.value.code in (400, 404)
        metrics = get(f"{page}/metrics")[2].decode()
        assert 'edgesem_state_events_total{device="gate",site="home",stream="main"} 1.0' in metrics
        assert receiver.end() == 0
    assert told.read_text() == "begun door $(bell) a b\ncomplete door $(bell) a b\n"
    (path,) = (out / "events").rglob("*.mp4")
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == count + 1
    promised = list(out.rglob("promised/*"))
    assert len([one for one in promised if one.suffix == ".es"]) == count
    assert not [one for one in promised if one.suffix == ".png"]  # a clip is enough
    assert next(e for e in receiver.events if e["event"] == "done")["clips"] == 1


@pytest.mark.long
def test_a_change_makes_an_event_that_a_receiver_gathers_over_a_restart(start, broker, tmp_path):
    where = ("--host", f"127.0.0.1:{broker}")
    (tmp_path / "quiet.toml").write_text("[event]\nquiet_s = 3\n")  # the pictures may end before the event does
    keep = (
        "--out",
        tmp_path / "out",
        "--state-dir",
        tmp_path / "r",
        "--workers",
        1,
        "--config",
        tmp_path / "quiet.toml",
    )
    receiver = start("receive", "receive", STREAM, *where, *keep)
    receiver.wait_for("ready")
    noise = np.random.default_rng(1)

    def seen(number):
        pixels = np.asarray(photo(number)).astype(int) + noise.integers(-2, 3, (112, 160, 3))
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    pictures = folder_of(tmp_path, [seen(0) for _ in range(80)] + [seen(3) for _ in range(60)])
    events = ("--events", "--event-before", "1s", "--event-after", "6s", "--event-fps", 4, "--send-on", "change")
    names = ("--device", "gate", "--state-dir", tmp_path / "s", "--heartbeat", 1)
    sender = start("send", "send", pictures, "--fps", 8, *names, *where, *events)
    begun = sender.wait_for("event_begun")
    assert begun["cause"] == "change"
    sender.wait_for("kept")
    receiver.end(signal.SIGKILL)
    again = start("again", "receive", STREAM, *where, *keep)
    assert sender.finish() == 0  # the pictures are through, and promised frames delivered
    frames = len(sender.of("promised", str))
    shown = again.wait_for("event", lambda event: event["phase"] == "complete" and event["frames"] == frames)
    assert (shown["id"], shown["missing"]) == (begun["id"], 0)
    assert shown["first_s"] < 0 < shown["last_s"]
    (clip,) = (tmp_path / "out/events").rglob("*.mp4")
    with av.open(str(clip)) as container:
        levels = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    before, after = (np.asarray(photo(number), int) for number in (0, 3))
    assert np.abs(levels[0] - before).mean() < np.abs(levels[0] - after).mean()  # the past
    assert np.abs(levels[-1] - after).mean() < np.abs(levels[-1] - before).mean()


def test_without_events_a_command_for_one_is_refused_and_nothing_is_kept(start, broker, tmp_path):
    where = ("--host", f"127.0.0.1:{broker}")
    pictures = folder_of(tmp_path, [photo(0)])
    names = ("--device", "gate", "--state-dir", tmp_path / "s", "--fps", 5)
    sender = start("send", "send", pictures, "--loop", *names, *where)
    sender.wait_for("connected")
    asked = [sys.executable, "-m", "edgesem", "ask", "event", STREAM, *where]
    answer = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=WAIT_S)
    assert (answer.returncode, f"{STREAM} makes no events" in answer.stderr) == (1, True)
    with Connection([Address("127.0.0.1", broker)], name="stranger") as connection:
        wait_for(lambda: connection.connected)
        connection.publish(Topics.named(STREAM).cmd, Command("event").to_bytes())
        wait_for(lambda: "this sender makes no events" in (tmp_path / "send.log").read_text())
    assert sender.end() == 0
    assert not sender.of("event_begun", str)

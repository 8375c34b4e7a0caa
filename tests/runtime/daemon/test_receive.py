"""The receiver as its users run it: the real command, a real broker, real packets, HTTP and a browser."""

import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import av
import pytest
from PIL import Image

from edgesem.cli.main import main
from edgesem.config import load_config
from edgesem.files import read_packet
from edgesem.packet.seal import Seal
from runtime.daemon.receive_settings import DrawSettings, OutSettings, ReceiveSettings
from runtime.mqtt.connection import Connection, Topics
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.receiver.stream_receiver import StreamReceiver
from tests.support import dashboard
from tests.support.publishing import DEADLINE_S, birth, codec, frame, identity, wait_for

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def broker():
    with Broker(kind="mosquitto") as running:
        yield running


class Daemon:
    """`edgesem receive` as a process; what it says is in `events`."""

    def __init__(self, broker, *args, env=None):
        address = broker.address
        self.events = queue.Queue()
        self.said = []
        where = ["--port", str(address.port), "--user", address.user]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", "receive", *args, *where, "--workers", "1", "--json"],
            env={**os.environ, "EDGESEM_PASSWORD": address.password, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._log, daemon=True),
        ]
        self.log = []
        for thread in self._threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def _log(self):
        self.log.extend(self.process.stderr)

    def next(self, event):
        """The next event of that name."""
        while True:
            told = self.events.get(timeout=DEADLINE_S)
            self.said.append(told)
            if told["event"] == event:
                return told

    def end(self):
        """Ask it to end and return its last words."""
        self.process.send_signal(signal.SIGTERM)
        done = self.next("done")
        assert self.process.wait(DEADLINE_S) == 0
        return done

    def __enter__(self):
        self.url = self.next("ready")["url"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Camera:
    """Publishes as a sender does, and hears what is answered."""

    def __init__(self, broker, device, stream="main"):
        self.topics = Topics("test", device, stream)
        self.acks, self.commands = queue.Queue(), queue.Queue()
        self.connection = Connection(
            broker.address, name="camera", subscribe=[self.topics.ack, self.topics.cmd], on_message=self._hear
        )

    def _hear(self, topic, payload):
        (self.acks if topic == self.topics.ack else self.commands).put(payload)

    def send(self, packet, layers=None):
        for part in [packet] if packet.promised else packet.split()[:layers]:
            self.connection.publish(self.topics.layer(part.first_layer), part.to_bytes())

    def send_until_heard(self, number=0):
        """Send frames until one is acknowledged: the receiver has subscribed. Returns the next frame number."""
        for tried in range(int(DEADLINE_S / 0.5)):
            self.send(frame(number + tried))
            try:
                self.acks.get(timeout=0.5)
            except queue.Empty:
                continue
            return number + tried + 1
        pytest.fail("nothing is acknowledged")

    def __enter__(self):
        self.connection.__enter__()
        return self

    def __exit__(self, *_):
        self.connection.__exit__(None, None, None)


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read()


def post(url, headers=None, **what):
    request = urllib.request.Request(
        url, json.dumps(what).encode(), headers={"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_pictures_promised_frames_and_the_end(broker, tmp_path):
    with Camera(broker, "one") as camera, Daemon(broker, "test/one/+", "--out", str(tmp_path)) as daemon:
        number = camera.send_until_heard()
        first = daemon.next("picture")
        with Image.open(first["file"]) as image:
            assert image.size == (first["width"], first["height"]) == (160, 112)
        promised = frame(number, promised=True)
        for _ in range(3):
            camera.send(promised)
        kept = []
        while len(kept) < 3:
            ack = Ack.from_bytes(camera.acks.get(timeout=DEADLINE_S))
            kept += [ack] * ack.kept
        assert {ack.frame for ack in kept} == {number}
        while not (shown := daemon.next("picture"))["promised"]:
            pass
        assert shown["frame"] == number
        (path,) = tmp_path.rglob("*.es")
        assert read_packet(path) == promised
        done = daemon.end()
    (stream,) = done["streams"]
    assert (stream["kept"], stream["repeated"]) == (1, 2)
    assert sum(told["event"] == "picture" and told["promised"] for told in daemon.said) == 1
    assert path.with_suffix(".png").exists()


def test_a_receiver_that_was_killed_draws_what_it_had_promised(broker, tmp_path):
    with Camera(broker, "two") as camera:
        with Daemon(broker, "test/two/+", "--out", str(tmp_path), "--as", "none") as daemon:
            number = camera.send_until_heard()
            daemon.next("picture")
            camera.send(frame(number, promised=True))
            wait_for(lambda: list(tmp_path.rglob("*.es")))
        for path in tmp_path.rglob("*.png"):
            path.unlink()
        with Daemon(broker, "test/two/+", "--out", str(tmp_path), "--as", "none") as daemon:
            assert daemon.next("picture")["frame"] == number


def test_a_video_for_each_stream(broker, tmp_path):
    with ExitStack() as stack:
        cameras = [stack.enter_context(Camera(broker, "three", name)) for name in ("a", "b")]
        daemon = stack.enter_context(Daemon(broker, "test/three/+", "--out", str(tmp_path), "--as", "mkv"))
        for camera in cameras:
            camera.send_until_heard()
            daemon.next("picture")
        daemon.end()
    assert len(list(tmp_path.rglob("video.mkv"))) == 2
    for path in tmp_path.rglob("video.mkv"):
        with av.open(str(path)) as video:
            assert len(list(video.decode(video=0))) >= 1


def test_a_thin_receiver_takes_the_base_layer_alone(broker):
    with Camera(broker, "thin") as camera, Daemon(broker, "test/thin/+", "--layers", "1") as daemon:
        camera.send_until_heard()
        picture = daemon.next("picture")
        assert picture["layers"] == 1
        assert picture["file"] is None


def test_strangers_bytes_and_wrong_keys_cost_counters_and_nothing_else(broker):
    """10,000 malformed packets and sealed ones of another key, with real ones in between."""
    rng = random.Random(1)
    key, who = bytes(range(32)), identity()
    born = birth(sealed=True, bundle_id=codec().bundle.id)
    pictures = []
    with (
        StreamReceiver(broker.address, "test/storm/+", workers=1, key=key) as stream_receiver,
        Camera(broker, "storm") as camera,
    ):
        base = camera.topics.base
        seal = Seal(key, stream=base, salt=born.salt)
        strangers = Seal(bytes(32), stream=base, salt=born.salt)
        camera.connection.publish(camera.topics.birth, born.to_bytes(who, base=base), retain=True)
        wait_for(lambda: stream_receiver.streams.find("test/storm/main"))
        counters = stream_receiver.streams.find("test/storm/main").inbox.counters
        shown = stream_receiver.pictures()
        for number in range(10):
            real = frame(number)
            good = real.split()[0].to_bytes()
            for index in range(1000):
                damaged = bytearray(seal.seal(replace(real, frame=1000 + index).split()[index % 4].to_bytes()))
                place = rng.choice([place for place in range(len(damaged)) if not 20 <= place < 24])
                damaged[place] ^= 1 << rng.randrange(8)  # the checksum says nothing where there is a tag
                hostile = (bytes(damaged), rng.randbytes(rng.randrange(2000)), strangers.seal(good), good)[index % 4]
                camera.connection.publish(camera.topics.layer(index % 4), hostile)
                if index % 250 == 249:  # mosquitto drops what stands in a queue of more than 1000
                    wait_for(lambda sent=1000 * number + index + 1: counters.malformed >= sent)
            for part in real.split():
                camera.connection.publish(camera.topics.layer(part.first_layer), seal.seal(part.to_bytes()))
            # Where this machine stands still for a moment, a frame is drawn before its last layer has come, and again.
            pictures.append(next(shown))
            while len(pictures[-1].packet.chunks) < 4:
                pictures.append(next(shown))
    assert [picture.packet.frame for picture in pictures if len(picture.packet.chunks) == 4] == list(range(10))
    assert {picture.packet.frame for picture in pictures} == set(range(10))
    assert (counters.malformed, counters.layers, counters.undecodable) == (10_000, 40, 0)
    assert counters.unsealed == 10_000
    acknowledged: set[int] = set()
    while len(acknowledged) < 10:
        ack = camera.acks.get(timeout=DEADLINE_S)
        acknowledged.add(Ack.from_bytes(seal.verify(ack, camera.topics.ack)).frame)
    assert acknowledged == set(range(10))


def test_home_assistant_finds_a_camera_and_its_pictures(broker):
    heard = queue.Queue()
    with (
        Connection(
            broker.address,
            name="ha",
            subscribe=["homeassistant/#", "edgesem/v1/test/ha/+/jpeg"],
            on_message=lambda topic, payload: heard.put((topic, payload)),
        ),
        Camera(broker, "ha") as camera,
        Daemon(broker, "test/ha/+", "--home-assistant"),
    ):
        camera.send_until_heard()
        topic, config = heard.get(timeout=DEADLINE_S)
        assert topic.startswith("homeassistant/camera/")
        topic, jpeg = heard.get(timeout=DEADLINE_S)
    assert topic == json.loads(config)["topic"]
    assert jpeg[:2] == b"\xff\xd8"


@pytest.fixture(scope="module")
def watched(broker):
    """A receiver with a live page, and the camera that it shows."""
    with Camera(broker, "page") as camera, Daemon(broker, "test/page/+", "--http", "0") as daemon:
        state = State(True, 1, 0, capacity_bps=64_000, rtt_s=0.05, budget_bytes=1500, frames=3)
        camera.connection.publish(camera.topics.state, state.to_bytes())
        camera.send_until_heard()
        daemon.next("picture")
        yield camera, daemon


def test_http_serves_pictures_figures_metrics_and_takes_settings(watched):
    camera, daemon = watched
    url = daemon.url
    told = wait_for(lambda: json.loads(get(f"{url}streams.json"))["streams"])[0]
    assert told["name"] == "test/page/main"
    assert told["state"]["capacity_bps"] == 64_000
    assert {"capacity_bps", "budget_bytes", "size_bytes", "delay_s"} <= {
        name for one in told["samples"] for name in one
    }
    assert get(f"{url}test/page/main.jpg")[:2] == b"\xff\xd8"
    with urllib.request.urlopen(f"{url}test/page/main.mjpg", timeout=DEADLINE_S) as stream:
        assert stream.readline() == b"--edgesem-picture\r\n"
    metrics = get(f"{url}metrics").decode()
    assert 'edgesem_receiver_layers_total{device="page",site="test",stream="main"}' in metrics
    assert {name for name in dashboard.metrics("receiver") if f"\n{name}" not in metrics} == set()
    assert post(f"{url}settings", stream="test/page/main", realism=0.5) == (200, {"steps": 0, "realism": 0.5})
    for wrong in ({"steps": 5}, {"realism": 7}, {"realism": "much"}, {"steps": True}):
        status, answer = post(f"{url}settings", stream="test/page/main", **wrong)
        assert (status, "error" in answer) == (400, True)
    assert post(f"{url}settings", stream="nobody")[0] == 404
    assert post(f"{url}snapshot", stream="test/page/main", size_bytes=4000)[0] == 202
    command = Command.from_bytes(camera.commands.get(timeout=DEADLINE_S))
    assert (command.kind, command.size_bytes) == ("snapshot", 4000)


def test_http_refuses_other_pages_and_outsized_requests(watched):
    _, daemon = watched
    url = daemon.url
    assert url.startswith("http://127.0.0.1:")
    assert post(f"{url}snapshot", {"Origin": "http://evil.example"}, stream="test/page/main")[0] == 403
    assert post(f"{url}snapshot", {"Host": "evil.example"}, stream="test/page/main")[0] == 403
    assert post(f"{url}snapshot", {"Content-Type": "text/plain"}, stream="test/page/main")[0] == 415
    assert post(f"{url}snapshot", stream="x" * 5000)[0] == 413
    assert post(f"{url}snapshot", stream=["list"])[0] in (400, 404)
    for path in ("nothing", "../edgesem/keys.py", "test/page/main.gif", "%2e%2e/x.jpg", "page/index.html"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{url}{path}")
        refused.value.close()
        assert refused.value.code == 404


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_wall(watched, tmp_path):
    _, daemon = watched
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=3000",
    ]
    shown = subprocess.run(
        [CHROMIUM, *arguments, "--virtual-time-budget=3000", "--dump-dom", daemon.url],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
    ).stdout
    assert 'data-stream="test/page/main"' in shown
    assert "1 stream" in shown
    assert "160×112" in shown
    assert "64 kbit/s" in shown
    assert 'src="/test/page/main.jpg?' in shown
    if not codec().has_flow:
        assert "this bundle has no flow decoder" in shown


def test_the_guides_configuration_is_what_can_be_configured(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "receive.md").read_text("utf-8")
    example = guide.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "receive.toml"
    path.write_text(example, "utf-8")
    settings = load_config(path, ReceiveSettings)
    for section, kind in (("draw", DrawSettings), ("out", OutSettings)):
        assert all(f"\n{field.name} = " in example for field in fields(kind) if field.name != "bundle"), section
    assert settings.draw == DrawSettings()
    assert settings.out.http == "8480"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["a/b"], "SITE/DEVICE/STREAM"),
        (["--steps", "9"], "draw.steps"),
        (["--as", "mkv"], "--out"),
        (["--http", "here"], "HOST:PORT"),
        (["--as", "gif"], "out.kind"),
    ],
)
def test_what_cannot_be_received_is_a_usage_error(flags, why, capfd):
    assert main(["receive", *flags]) == 2
    assert why in capfd.readouterr().err.replace("\n", " ")


def test_steps_without_a_flow_decoder_are_refused_before_anything_is_received(broker, capfd):
    if codec().has_flow:
        pytest.skip("the bundle has a flow decoder")
    assert main(["receive", "--steps", "1", "--workers", "1"]) == 2
    assert "no flow decoder" in capfd.readouterr().err.replace("\n", " ")

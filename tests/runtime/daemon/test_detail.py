"""Details on request: a real sender, broker and receiver, and `edgesem ask detail`."""

import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgesem.files import read_packet
from edgesem.provenance import read_provenance
from runtime.capture.frame import PHOTOS
from runtime.capture.privacy_mask import FILL
from runtime.cli.ask_detail import _heard
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.state import State
from tests.support.edgesem_process import WAIT_S, edgesem_processes
from tests.support.publishing import wait_for
from tests.support.real_broker import Mosquitto

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
SIZE = (1280, 960)
ROI = (0.5, 0.25, 0.2, 0.2)
NAME = "home/t/main"


def scene():
    """A camera's picture: four photographs at their full resolution."""
    whole = Image.new("RGB", SIZE)
    for number, path in enumerate(sorted(PHOTOS.glob("*.jpg"))[:6]):
        whole.paste(Image.open(path), (512 * (number % 3), 512 * (number // 3)))
    return whole


def part_of(picture, roi):
    """The pixels of a part in shares."""
    height, width = picture.shape[:2]
    left, top, across, down = roi
    rows = slice(round(top * height), round((top + down) * height))
    return picture[rows, round(left * width) : round((left + across) * width)]


def psnr_db(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.kill()


@pytest.fixture
def start(tmp_path, broker):
    """Starts commands at the broker, and ends them."""
    with edgesem_processes() as start:
        yield lambda *args: start(*args, *broker.there, log=tmp_path / f"{args[0]}.log")


@pytest.fixture
def camera(tmp_path, start):
    """Starts an `edgesem send --detail` of the scene."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    scene().save(pictures / "scene.png")

    def camera(*args, detail=f"{SIZE[0]}x{SIZE[1]}"):
        kept = ("--detail", detail) if detail else ()
        common = ("--device", "t", "--loop", "--fps", 2, "--state-dir", tmp_path / "state")
        return start("send", pictures, *common, *kept, *args)

    return camera


@pytest.fixture
def ask(broker):
    """Runs an `edgesem ask KIND`: its exit code, what it prints as JSON, and its log."""

    def ask(kind, *args):
        command = [sys.executable, "-m", "edgesem", "ask", kind, NAME, *map(str, (*broker.there, *args)), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
        return done.returncode, json.loads(done.stdout or "null"), done.stderr

    return ask


class Page:
    """The HTTP server of a receiver."""

    def __init__(self, url):
        self._url = url

    def get(self, path):
        with urllib.request.urlopen(self._url + path) as answer:
            return answer.read()

    def stream(self):
        found = json.loads(self.get("streams.json?samples="))["streams"]
        return found[0] if found else None

    def post(self, path, **body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def test_a_part_comes_sharp_and_is_filed_apart_from_the_streams_pictures(tmp_path, start, camera):
    camera()
    out = tmp_path / "out"
    receiver = start("receive", NAME, "--http", 0, "--out", out, "--workers", 1, "--state-dir", tmp_path / "r")
    page = Page(receiver.wait_for("ready")["url"])
    before = wait_for(
        lambda: (one := page.stream()) and one["picture"] and one["state"] and one["state"]["detail"] and one
    )
    assert before["state"]["detail"] == list(SIZE)
    assert before["detail"] is None
    status, said = page.post("detail", stream=NAME, roi=list(ROI), size_bytes=12000)
    assert (status, said["asked"]) == (202, "detail")
    found = wait_for(lambda: page.stream()["detail"])
    assert found["request"] == said["request"]
    assert found["roi"] == pytest.approx(ROI, abs=0.001)
    assert (found["width"], found["height"]) == (256, 192)
    assert found["size_bytes"] <= 12000
    told = receiver.wait_for("picture", lambda event: event["detail"] is not None)
    after = page.stream()
    assert not after["picture"]["promised"]
    assert after["snapshot"] is None
    name = out / "home" / "t" / "main" / "promised"
    (packet_file,) = name.glob("*-detail.es")
    picture_file = packet_file.with_suffix(".png")
    assert told["file"] == str(picture_file)
    assert read_packet(packet_file).side_info.detail.request == said["request"]
    assert [float(one) for one in read_provenance(picture_file).part.split(",")] == pytest.approx(ROI, abs=0.001)
    truth = part_of(np.asarray(scene()), ROI)
    drawn = np.asarray(Image.open(picture_file))
    small = np.asarray(Image.open(io.BytesIO(page.get(f"{NAME}.jpg?now"))))
    assert small.shape == (480, 640, 3)
    enlarged = Image.fromarray(part_of(small, ROI)).resize((256, 192), Image.Resampling.LANCZOS)
    assert psnr_db(drawn, truth) > psnr_db(np.asarray(enlarged), truth) + 1, "no sharper than the stream's own picture"
    assert page.get(f"{NAME}.jpg?detail")[:2] == b"\xff\xd8"
    assert page.post("detail", stream=NAME, roi=[0.5, 0, 0.6, 1])[0] == 400
    assert page.post("detail", stream=NAME, roi="all")[0] == 400
    wait_for(lambda: page.stream()["picture"]["frame"] > found["frame"])  # the stream goes on


def test_what_the_privacy_mask_hides_no_detail_shows(tmp_path, ask, camera):
    mask = tmp_path / "mask.toml"
    mask.write_text("[[area]]\npoints = [[0.45, 0.2], [0.75, 0.2], [0.75, 0.5], [0.45, 0.5]]\n")
    camera("--mask", mask).wait_for("state", lambda state: state["detail"])
    shown = tmp_path / "shown.png"
    code, said, _ = ask("detail", "--roi", "0.5,0.25,0.2,0.2", "--bytes", 20000, "--out", shown)
    assert (code, said["width"], said["height"]) == (0, 256, 192)
    assert np.abs(np.asarray(Image.open(shown)).astype(int) - FILL).max() <= 8
    beside = tmp_path / "beside.png"
    code, _, words = ask("detail", "--roi", "0.0,0.6,0.2,0.2", "--bytes", 20000, "--out", beside)
    assert code == 0, words
    assert np.asarray(Image.open(beside)).std() > 20


def test_asked_for_in_a_pause_and_with_nobody_watching_it_is_written_and_kept_no_more(tmp_path, ask, camera):
    sender = camera("--live", "on-demand", "--idle-every", 3600)
    sender.wait_for("state", lambda state: state["detail"])
    assert ask("pause")[0] == 0
    sender.wait_for("state", lambda state: state["paused"] and state["live"] == "idle")
    for name in ("part.jpg", "part.es"):
        code, said, words = ask("detail", "--roi", "0.5,0.25,0.2,0.2", "--bytes", 9000, "--out", tmp_path / name)
        assert code == 0, words
        assert said["size_bytes"] <= 9000
        assert (tmp_path / name).stat().st_size > 1000
    sender.wait_for("kept")
    assert read_packet(tmp_path / "part.es").promised


def test_a_sender_without_full_pictures_says_so(tmp_path, ask, camera):
    camera(detail=None).wait_for("connected")
    for more in ((), ("--out", tmp_path / "x.png", "--wait", 20)):
        code, _, words = ask("detail", "--roi", "0.5,0.5,0.2,0.2", *more)
        assert code
        assert "start its sender with --detail" in " ".join(words.split())
    assert ask("detail", "--roi", "0.5,0.5,0.2,0.2", "--out", tmp_path / "x.txt")[0] == 2


def test_a_detail_is_asked_for_once_there_is_a_connection_not_as_soon_as_a_retained_message_comes():
    waits = []

    def wait(seconds):
        waits.append(seconds)
        receiver.connection.connected = len(waits) == 3

    stream = SimpleNamespace(birth=None, state=State(True, 1, 0, detail=SIZE))
    connection = SimpleNamespace(connected=False, trouble="")
    receiver = SimpleNamespace(streams=SimpleNamespace(find=lambda _: stream), connection=connection, wait=wait)
    assert _heard(receiver, NAME, WAIT_S, sealed=False) is stream
    assert len(waits) == 3

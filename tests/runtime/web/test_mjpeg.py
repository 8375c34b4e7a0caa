"""Pictures of a receiver in others' players: FFmpeg, GStreamer, Chromium, and a reader like that of go2rtc."""

import contextlib
import http.client
import json
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from edgesem.provenance import Provenance
from runtime.mqtt.loopback_broker import Broker
from runtime.protocol.topics import Topics
from runtime.receiver.received_picture import PictureInfo, ReceivedPicture
from runtime.web import mjpeg
from runtime.web.gallery import Gallery, LatestPicture
from tests.support.browser import Browser, needs_chromium
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import DEADLINE_S, codec, frame, wait_for
from tests.support.real_broker import needs_mosquitto
from tests.support.receive_daemon import Camera, ReceiveDaemon
from tests.support.rtsp import RELAY, needs_rtsp_server, running

pytestmark = needs_mosquitto
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "players.md").read_text("utf-8")
# Of Frigate's presets preset-http-mjpeg-generic and preset-http-jpeg-generic
FRIGATE = ["-avoid_negative_ts", "make_zero", "-fflags", "nobuffer", "-flags", "low_delay", "-strict", "experimental"]
FRIGATE += ["-fflags", "+genpts+discardcorrupt", "-use_wallclock_as_timestamps", "1"]


@pytest.fixture(scope="module")
def video():
    """URL of the pictures of a camera that has sent one, without `.jpg` or `.mjpg`, and sends no more."""
    with (
        Broker(kind="mosquitto") as broker,
        Camera(broker, "players") as camera,
        ReceiveDaemon(broker, "test/players/+", "--http", "0") as daemon,
    ):
        camera.send_until_heard()
        daemon.next("picture")
        yield f"{daemon.url}test/players/main"


def read_parts(stream, count):
    """As go2rtc reads: empty lines, a line with --, headers with a length, and so many bytes of JPEG."""
    found = []
    while len(found) < count:
        while (line := stream.readline()) == b"\r\n":
            pass
        if not line:
            return found
        assert line.startswith(b"--"), line
        headers = http.client.parse_headers(stream)
        body = stream.read(int(headers["Content-Length"]))
        found.append((headers, body))
    return found


def test_a_part_has_type_length_and_time_and_ends_at_once(video):
    asked_s = time.monotonic()
    with urllib.request.urlopen(f"{video}.mjpg?repeat=10", timeout=DEADLINE_S) as stream:
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=edgesem-picture"
        assert stream.headers["Connection"] == "close"
        [(headers, body)] = read_parts(stream, 1)
        assert stream.readline() + stream.readline() == b"\r\n--edgesem-picture\r\n"
        assert time.monotonic() - asked_s < 9
    assert headers["Content-Type"] == "image/jpeg"
    assert abs(time.time() - float(headers["X-Timestamp"])) < 86400
    assert (body[:2], body[-2:]) == (b"\xff\xd8", b"\xff\xd9")
    assert body.count(b"\xff\xd9") == 1  # Home Assistant takes the first for the end


def test_the_newest_picture_comes_again_before_a_player_loses_patience(video):
    with urllib.request.urlopen(f"{video}.mjpg?repeat=0.1", timeout=DEADLINE_S) as stream:
        parts = read_parts(stream, 5)
    assert len({body for _, body in parts}) == 1
    assert mjpeg.REPEAT_S < 10  # the shortest time-out of a player that we know of


def test_a_still_url_says_when_and_a_head_is_short(video):
    for method in ("GET", "HEAD"):
        request = urllib.request.Request(f"{video}.jpg", method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert "GMT" in answer.headers["Last-Modified"]
            assert len(answer.read()) == (int(answer.headers["Content-Length"]) if method == "GET" else 0)
    head = urllib.request.Request(f"{video}.mjpg", method="HEAD")
    with urllib.request.urlopen(head, timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
        assert answer.read() == b""


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        (".mjpg?repeat=0", 400, "repeat must be 0.1 to 10 seconds"),
        (".mjpg?repeat=nan", 400, "repeat must be"),
        (".mjpg?repeat=", 400, "repeat must be"),
        (".jpg?max_age=x", 400, "max_age must be 1 to 86400 seconds"),
        ("2.mjpg", 404, "heard are test/players/main"),
    ],
)
def test_what_cannot_be_is_said(video, query, status, words):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{video}{query}", timeout=DEADLINE_S)
    with refused.value as answer:
        assert answer.code == status
        assert words in json.loads(answer.read())["error"]


def test_a_picture_that_is_too_old_is_none(video):
    def refused():
        try:
            urllib.request.urlopen(f"{video}.jpg?max_age=1", timeout=DEADLINE_S).close()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())["error"]
        return None

    status, words = wait_for(refused)
    assert status == 503
    assert re.fullmatch(r"the newest picture of test/players/main is \d+ s old", words)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{video}.mjpg?max_age=1", timeout=DEADLINE_S)
    error.value.close()
    assert error.value.code == 503


NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def shown(jpeg, age_s, number=1):
    info = PictureInfo(1, 1, False, 8, 8, 1, 100, 1, 0, 0.0, delay_s=age_s)
    return LatestPicture(number, jpeg, info, shown_s=time.monotonic())


def test_a_video_ends_when_its_newest_picture_is_too_old_and_with_its_stream():
    gallery = Gallery()
    gallery._latest["a/b/c"] = shown(b"young", 0.0)
    parts = mjpeg.parts(gallery, "a/b/c", mjpeg.VideoOptions(repeat_s=0.1, max_age_s=60))
    assert next(parts).startswith(b"--")
    assert b"young" in next(parts)
    gallery._latest["a/b/c"] = shown(b"old", 61.0, number=2)
    assert list(parts) == []
    gallery._latest["a/b/c"] = shown(b"any", 1e6)
    parts = mjpeg.parts(gallery, "a/b/c", mjpeg.VideoOptions(repeat_s=0.1))
    assert [next(parts)[:2], b"any" in next(parts)] == [b"--", True]
    gallery.remove("a/b/c")
    assert list(parts) == []


def test_a_video_whose_picture_was_skipped_begins_when_it_is_drawn_or_ends():
    gallery, drawn = Gallery(), shown(b"drawn", 0.0)
    gallery._latest["a/b/c"] = shown(b"", 0.0)

    def draw():
        gallery._latest["a/b/c"] = drawn
        return True

    parts = mjpeg.parts(gallery, "a/b/c", mjpeg.VideoOptions(), draw)
    assert [next(parts)[:2], b"drawn" in next(parts)] == [b"--", True]
    gallery._latest["a/b/c"] = shown(b"", 0.0, number=2)
    assert len(list(mjpeg.parts(gallery, "a/b/c", mjpeg.VideoOptions()))) == 1  # it will not be drawn


def test_who_waits_for_a_picture_learns_at_once_that_its_stream_is_gone():
    gallery = Gallery()
    gallery._latest["a/b/c"] = shown(b"", 0.0)

    def ask():
        gallery.remove("a/b/c")
        return True

    assert gallery.drawn("a/b/c", ask, timeout_s=3600) is None


def test_a_picture_that_is_drawn_later_says_how_it_was_drawn():
    gallery, packet = Gallery(), frame(1)
    provenance = Provenance.of(packet, codec().bundle)
    skipped = ReceivedPicture("a/b/c", Topics("a", "b", "c"), packet, NO_IMAGE, 0, 0.01, 0.5, provenance)
    gallery.put(skipped)
    gallery.show(replace(skipped, image=np.zeros((16, 16, 3), np.uint8), steps=2, decode_s=0.7, delay_s=9.0))
    info = gallery.latest("a/b/c").info
    assert (info.steps, info.decode_s, info.delay_s) == (2, 0.7, 0.5)


def test_ffmpeg_s_library_plays_it(video):
    with av.open(f"{video}.mjpg?repeat=0.1", timeout=DEADLINE_S) as container:
        assert container.format.name == "mpjpeg"
        frames = [picture.to_ndarray(format="rgb24") for picture in islice(container.decode(video=0), 4)]
    assert len({picture.tobytes() for picture in frames}) == 1


@needs_ffmpeg
@pytest.mark.parametrize(
    ("kind", "before"),
    [(".mjpg?repeat=0.2", []), (".jpg", ["-r", "5", "-stream_loop", "-1", "-f", "image2"])],
    ids=["mjpeg", "jpeg"],
)
def test_ffmpeg_as_frigate_calls_it(video, kind, before):
    command = ["ffmpeg", "-loglevel", "error", *before, *FRIGATE, "-i", video + kind]
    command += ["-r", "5", "-vf", "fps=5,scale=64:48", "-frames:v", "6"]
    command += ["-pix_fmt", "yuv420p", "-f", "rawvideo", "pipe:"]
    run = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    assert (run.returncode, len(run.stdout)) == (0, 6 * 64 * 48 * 3 // 2), run.stderr


@needs_ffmpeg
def test_ffmpeg_records_it_as_h264_at_a_constant_rate(video, tmp_path):
    command = ["ffmpeg", "-loglevel", "error", *FRIGATE, "-i", f"{video}.mjpg?repeat=0.2"]
    command += ["-r", "5", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-t", "2", str(tmp_path / "clip.mp4")]
    subprocess.run(command, check=True, timeout=WAIT_S)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert len(list(clip.decode(video=0))) >= 8


@needs_chromium
def test_a_browser_shows_the_only_picture(video, tmp_path):
    of_picture = f"const i = new Image(); i.onload = () => done(i.width); i.src = '{video}.mjpg?repeat=10'"
    with Browser(tmp_path) as browser:
        browser.open(video.rpartition("/test/")[0] + "/page.css", 640, 480)
        asked_s = time.monotonic()
        assert browser.evaluate(f"new Promise(done => {{ {of_picture} }})") > 0
        assert time.monotonic() - asked_s < 9


# An RTSP server that records what is sent to it, as mediamtx does.
RECORDER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch(
    "( rtph264depay name=depay0 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream "
    f'! filesink location="{sys.argv[2]}" buffer-mode=unbuffered )'
)
server.get_mount_points().add_factory("/gate", factory)
server.attach(None)
GLib.MainLoop().run()
"""


@needs_rtsp_server(RELAY)
def test_the_guides_relay_makes_an_rtsp_camera_of_it(video):
    relay = GUIDE.partition("```python\n# relay.py\n")[2].partition("```")[0]
    with running(relay, f"{video}.mjpg?repeat=0.2") as port:
        there = f"rtsp://127.0.0.1:{port}/gate"
        with av.open(there, options={"rtsp_transport": "tcp"}, timeout=DEADLINE_S) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            frames = list(islice(container.decode(video=0), 5))
    assert {(picture.width, picture.height) for picture in frames} == {(160, 112)}


@needs_rtsp_server(RELAY)
@needs_ffmpeg
def test_the_guides_line_for_mediamtx_publishes_it_by_rtsp(video, tmp_path):
    [line] = [
        path["runOnDemand"] for text in snippets("mediamtx.yml") for path in yaml.safe_load(text)["paths"].values()
    ]
    sent = tmp_path / "sent.h264"
    with running(RECORDER, sent) as port:
        known = ("http://HOST:8480/home/gate/main", video), ("$RTSP_PORT", str(port)), ("$MTX_PATH", "gate")
        for name, value in known:
            assert name in line
            line = line.replace(name, value)
        with subprocess.Popen(shlex.split(line)) as publisher:
            try:
                wait_for(lambda: sent.exists() and sent.stat().st_size > 2000)
            finally:
                publisher.kill()
    with av.open(str(sent), format="h264") as container:
        assert next(container.decode(video=0)).width == 160


def snippets(name):
    """The YAML files of that name in the guide."""
    return re.findall(rf"```yaml\n# {re.escape(name)}[^\n]*\n(.*?)```", GUIDE, re.DOTALL)


def test_the_guides_files_are_yaml_and_their_urls_are_answered(video):
    for name in ("config.yml", "go2rtc.yaml", "mediamtx.yml"):
        assert [type(yaml.safe_load(text)) for text in snippets(name)]
    urls = set(re.findall(r"http://HOST:8480/home/gate/main(\.[^\s`'#]+)", GUIDE))
    assert len(urls) > 4
    for url in urls - {".jpg?promised"}:  # of which there is none
        with urllib.request.urlopen(f"{video}{url}", timeout=DEADLINE_S) as answer:
            assert answer.status == 200


def test_a_reader_that_does_not_read_holds_little_and_one_that_is_gone_is_missed_soon():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as reader:
        connection, _ = server.accept()
        with connection:
            mjpeg.bound_unread(connection)
            connection.settimeout(0.5)
            taken_bytes = 0
            with contextlib.suppress(TimeoutError):
                while taken_bytes < 10_000_000:
                    taken_bytes += connection.send(bytes(10_000))
            assert taken_bytes < 1_500_000  # without a bound it is 2.5 MB and more
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 30_000
            assert reader.recv(1)

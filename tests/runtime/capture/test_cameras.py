"""Live sources that are not ours: a GStreamer pipeline, an RTSP server that comes and goes, what is said of them."""

import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from edgesem.errors import UsageError
from runtime.capture.source import Source
from runtime.settings import SourceSettings
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.rtsp import needs_rtsp_server, running

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="needs apt install gstreamer1.0-tools"
)
RTSP = """
import sys
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 "
    "! x264enc tune=zerolatency key-int-max=5 ! rtph264pay name=pay0 )"
)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
GLib.MainLoop().run()
"""


def source(uri, width=320, height=240):
    stop = threading.Event()
    return Source(SourceSettings(uri=uri, width=width, height=height), fps=10, stop=stop), stop


@needs_gstreamer
def test_a_pipeline_is_a_camera():
    camera, stop = source("gst:videotestsrc is-live=true pattern=red")
    frames = iter(camera)
    for _ in range(3):
        frame = next(frames)
        assert frame.image.shape == (240, 320, 3)
        red, green, blue = frame.image.reshape(-1, 3).mean(0)
        assert (red > 220, green < 30, blue < 30) == (True, True, True)
    stop.set()
    assert list(frames) == []


@needs_gstreamer
def test_a_pipeline_s_picture_is_not_squeezed_and_its_quotes_stay():
    pipeline = 'videotestsrc is-live=true pattern=red ! "video/x-raw, width=320, height=160"'
    camera, stop = source(f"gst:{pipeline}", width=320, height=240)
    frame = next(iter(camera))
    stop.set()
    assert frame.image.shape == (240, 320, 3)
    red = frame.image[:, 160, 0] > 200
    assert (red[:36].any(), red[44:196].all(), red[204:].any()) == (False, True, False)
    with pytest.raises(UsageError, match="quote"):
        next(iter(source('gst:videotestsrc ! "video/x-raw')[0]))


FAKE_GST = """\
#!{python}
import sys
words = sys.argv[1:]
size = next(word for word in words if word.startswith("video/x-raw,format=RGB"))
width, height = (int(size.split(key + "=")[1].split(",")[0]) for key in ("width", "height"))
open({log!r}, "w").write(" ".join(words))
sys.stdout.buffer.write(bytes(width * height * 3))
"""


def test_a_csi_camera_is_asked_for_its_own_shape(tmp_path, monkeypatch):
    tool = tmp_path / "gst-launch-1.0"
    tool.write_text(FAKE_GST.format(python=sys.executable, log=str(tmp_path / "log")))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    camera, _ = source("csi:1", width=640, height=480)
    assert next(iter(camera)).image.shape == (360, 640, 3)
    assert "width=1920,height=1080" in (tmp_path / "log").read_text()


@needs_gstreamer
def test_a_sender_whose_pipeline_is_told_to_end_with_it_ends_in_peace(tmp_path):
    sender = EdgesemProcess(
        "send", "gst:videotestsrc is-live=true", "--port", free_port(), "--state-dir", tmp_path, log=tmp_path / "log"
    )
    sender.wait_for("skipped")  # frames come; there is no broker
    for path in Path("/proc").glob("[0-9]*/stat"):  # systemd tells all processes of a unit
        if path.read_text().rpartition(")")[2].split()[1] == str(sender.process.pid):
            os.kill(int(path.parent.name), signal.SIGTERM)
    sender.process.terminate()
    assert sender.finish() == 0


@needs_rtsp_server("x264enc")
def test_an_rtsp_camera_is_opened_again_when_it_was_away(monkeypatch):
    port = free_port()
    monkeypatch.setattr("runtime.capture.network._FIRST_WAIT_S", 0.1)
    camera, stop = source(f"rtsp://127.0.0.1:{port}/camera")
    frames = iter(camera)
    for _ in range(2):
        with running(RTSP, port=port):
            for _ in range(5):
                assert next(frames).image.shape == (240, 320, 3)
    stop.set()
    assert len(list(frames)) < 5  # what had come by then


def test_a_password_in_a_uri_is_not_said(caplog, monkeypatch):
    monkeypatch.setattr("runtime.capture.network._FIRST_WAIT_S", 0.0)
    camera, stop = source(f"rtsp://user:s3cret@127.0.0.1:{free_port()}/camera")
    monkeypatch.setattr(stop, "wait", lambda _: stop.set())
    with caplog.at_level(logging.DEBUG):
        assert list(camera) == []
    assert "no picture from rtsp://127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text

"""RTSP servers of GStreamer's, as scripts for Debian's Python, which has the bindings."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.support.edgesem_process import free_port
from tests.support.real_broker import wait_for_port

SYSTEM_PYTHON = "/usr/bin/python3"
RELAY = "souphttpsrc multipartdemux jpegdec x264enc h264parse"
"""Elements of a relay that makes H.264 of MJPEG."""


def needs_rtsp_server(elements):
    """Mark of a test that needs the bindings, and these elements of GStreamer, separated by spaces."""
    words = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        f"assert all(Gst.ElementFactory.find(name) for name in {elements.split()})"
    )
    there = (
        Path(SYSTEM_PYTHON).exists()
        and not subprocess.run([SYSTEM_PYTHON, "-c", words], capture_output=True).returncode
    )
    return pytest.mark.skipif(
        not there, reason=f"needs apt install gir1.2-gst-rtsp-server-1.0, and of GStreamer {elements}"
    )


@contextlib.contextmanager
def running(script, *args, port=None):
    """The port on which a script listens, whose first argument that is; killed at the end."""
    port = port or free_port()
    with subprocess.Popen([SYSTEM_PYTHON, "-c", script, str(port), *map(str, args)]) as server:
        try:
            wait_for_port(port, server)
            yield port
        finally:
            server.kill()

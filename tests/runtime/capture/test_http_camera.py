"""HTTP cameras as people have them: without a first boundary, without a length, with broken pictures."""

import http.server
import io
import threading

import numpy as np
import pytest
from PIL import Image

from runtime.capture.source import Source
from runtime.settings import SourceSettings

pytest.importorskip("av")


def jpeg(number):
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, : 8 + 8 * (number % 10)] = 200
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    return data.getvalue()


class HttpCamera(http.server.BaseHTTPRequestHandler):
    """A camera whose path says what it does otherwise."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(10_000):
                data = jpeg(number)
                if "broken" in self.path and number % 3 == 2:
                    data = data[:200] + bytes(len(data) - 200)
                length = "" if "nolength" in self.path else f"Content-Length: {len(data)}\r\n"
                boundary = "" if "nofirst" in self.path and not number else "--frame\r\n"
                head = f"{boundary}Content-Type: image/jpeg\r\n{length}\r\n".encode()
                self.wfile.write(data if "bare" in self.path else head + data + b"\r\n")
                if self.server.left.wait(0.02):
                    return
        except OSError:
            return

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HttpCamera) as server:
        server.left = threading.Event()
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.left.set()
        server.shutdown()


@pytest.mark.parametrize("path", ["plain", "nofirst", "nolength", "nofirst-nolength", "bare", "broken"])
def test_an_http_camera_is_read_and_what_is_broken_is_counted(camera, path):
    stop, frames = threading.Event(), []
    too_long = threading.Timer(60, stop.set)
    too_long.start()
    source = Source(SourceSettings(f"{camera}/{path}"), fps=50, stop=stop)
    for frame in source:
        frames.append(frame)
        if len(frames) >= 6 and (path != "broken" or source.left_out):
            stop.set()
    too_long.cancel()
    assert len(frames) >= 6
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert (source.left_out > 0) == (path == "broken")


def test_pictures_of_a_folder_that_cannot_be_read_are_counted(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number) if number % 2 else b"no picture")
    source = Source(SourceSettings(str(tmp_path)), fps=60, stop=threading.Event())
    assert [frame.name for frame in source] == ["1", "3"]
    assert source.left_out == 2

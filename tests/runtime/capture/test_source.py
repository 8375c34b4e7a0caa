"""Sources: a video file, a watched folder, a program of a camera; as frames, in order, or a clear error."""

import io
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edgesem.cli.main import main
from edgesem.errors import EnvironmentMissing, InputError, MissingDependency, UsageError
from runtime.capture.source import Source
from runtime.settings import SourceSettings
from tests.support.videos import greys, write_video

FPS = 20


def source(uri, fps=FPS, **settings):
    stop = threading.Event()
    return Source(SourceSettings(uri=str(uri), **settings), fps=fps, stop=stop), stop


def make_clip(path, count=5, size=(96, 64)):
    return write_video(path, greys((20 + 40 * number for number in range(count)), *size), rate=FPS)


def test_a_video_is_shown_from_its_first_picture_to_its_end(tmp_path):
    frames = list(source(make_clip(tmp_path / "clip.mp4"))[0])
    levels = [float(frame.image.mean()) for frame in frames]
    assert frames[0].image.shape == (64, 96, 3)
    assert abs(levels[0] - 20) < 8
    assert levels == sorted(levels)  # a busy machine leaves some out, and shows none twice
    assert len({frame.name for frame in frames}) == len(frames) <= 5


def test_a_looped_video_begins_again_until_it_is_stopped(tmp_path):
    film, stop = source(make_clip(tmp_path / "clip.mp4", count=2), loop=True)
    dark = 0
    for frame in film:
        dark += frame.image.mean() < 40
        if dark == 3:
            stop.set()
    assert dark == 3


def test_frames_are_shrunk_to_fit_and_turned(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", count=1, size=(256, 128))
    (frame,) = source(clip, width=160, height=120, rotate=90)[0]
    assert frame.image.shape == (160, 80, 3)


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 4096])
def test_what_is_no_video_is_an_input_error(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match="clip"):
        list(source(path)[0])


def corners(width, height):
    """A picture that is red in its upper left quarter, blue elsewhere."""
    picture = np.full((height, width, 3), (20, 20, 220), np.uint8)
    picture[: height // 2, : width // 2] = 220, 20, 20
    return picture


def is_red(colour):
    return bool(np.abs(colour.astype(int) - (220, 20, 20)).max() < 40)


def test_what_a_video_says_of_how_to_show_it_counts(tmp_path):
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 192, 128, "yuv420p", 4_000_000
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(192, 128), format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44  # the display matrix: a quarter turn clockwise
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (frame,) = source(path)[0]
    assert frame.image.shape == (256, 128, 3)
    assert (is_red(frame.image[20, 110]), is_red(frame.image[20, 10])) == (True, False)


def test_what_a_picture_says_of_how_to_show_it_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(corners(4800, 960)).save(tmp_path / "large.jpg", exif=exif)
    (frame,) = source(tmp_path, fps=1000)[0]
    assert frame.image.shape == (480, 96, 3)
    assert is_red(frame.image[20, frame.image.shape[1] - 4])


def test_a_picture_too_small_or_too_long_is_left_out_and_the_rest_goes_on(tmp_path, caplog):
    for name, size in (("a", (80, 80)), ("b", (63, 80)), ("c", (1600, 100)), ("d", (90, 80))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    frames, _ = source(tmp_path, fps=1000)
    assert [frame.name for frame in frames] == ["a", "d"]
    assert "b: 63x80" in caplog.text
    assert "c: " in caplog.text
    assert frames.left_out == 2


def test_a_folder_that_is_played_again_names_a_bad_picture_once(tmp_path, caplog):
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    frames, stop = source(tmp_path, fps=1000, loop=True)
    for _ in frames:
        if frames.left_out >= 5:
            stop.set()
    assert 1 <= caplog.text.count("b.png") <= 2  # the first time, and once for all later rounds


def test_a_video_that_begins_late_is_not_waited_for(tmp_path):
    make_clip(tmp_path / "a.mkv")
    late = tmp_path / "late.mkv"
    with av.open(str(tmp_path / "a.mkv")) as reader, av.open(str(late), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + 3_600_000, packet.dts + 3_600_000
                packet.stream = stream
                writer.mux(packet)
    began_s = time.monotonic()
    assert len(list(source(late)[0])) >= 1
    assert time.monotonic() - began_s < 30


def save(folder, name, level):
    Image.new("RGB", (80, 64), (level, level, level)).save(folder / f".{name}", format="PNG")
    os.replace(folder / f".{name}", folder / name)


def test_a_watched_folder_gives_what_is_there_and_what_comes_once_each(tmp_path):
    save(tmp_path, "a.png", 10)
    frames, stop = source(tmp_path, watch=True)
    seen = []
    for frame in frames:
        seen.append((frame.name, int(frame.image[0, 0, 0])))
        if len(seen) == 1:
            (tmp_path / "broken.png").write_bytes(b"no picture")
            save(tmp_path, "b.png", 20)
        elif len(seen) == 2:
            save(tmp_path, "c.png", 30)
        else:
            stop.set()
    assert seen == [("a", 10), ("b", 20), ("c", 30)]


def test_a_watched_picture_is_read_when_it_is_whole_and_again_when_it_is_written_anew(tmp_path, caplog):
    save(tmp_path, "a.png", 10)
    frames, stop = source(tmp_path, watch=True)
    data = io.BytesIO()
    Image.new("RGB", (80, 80), (50, 50, 50)).save(data, "PNG")
    seen = []
    for frame in frames:
        seen.append((frame.name, int(frame.image[0, 0, 0])))
        if len(seen) == 1:
            (tmp_path / "b.png").write_bytes(data.getvalue()[:90])  # an upload that stalls
            save(tmp_path, "c.png", 30)
        elif len(seen) == 2:
            (tmp_path / "b.png").write_bytes(data.getvalue())
        elif len(seen) == 3:
            save(tmp_path, "c.png", 40)
        elif len(seen) == 4:
            (tmp_path / "deep" / "er").mkdir(parents=True)
            save(tmp_path / "deep" / "er", "d.png", 60)
        else:
            stop.set()
    assert seen == [("a", 10), ("c", 30), ("b", 50), ("c", 40), ("d", 60)]
    assert "left out" in caplog.text


def test_a_watched_folder_may_vanish_and_come_back(tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder, "a.png", 10)
    frames, stop = source(folder, watch=True)
    seen = []

    def bring_back():
        while "cannot be looked at" not in caplog.text:
            time.sleep(0.02)
        (tmp_path / "away").rename(folder)

    for frame in frames:
        seen.append(frame.name)
        if len(seen) == 1:
            folder.rename(tmp_path / "away")
            save(tmp_path / "away", "b.png", 20)
            threading.Thread(target=bring_back, daemon=True).start()
        elif "b" in seen:
            stop.set()
    assert seen[0] == "a"
    assert seen[-1] == "b"


def test_a_password_in_a_uri_stands_in_no_error():
    with pytest.raises(InputError, match="no such file") as error:
        source("rstp://user:secret@cam/1")
    assert "secret" not in str(error.value)


def test_a_camera_that_is_opened_and_gives_nothing_is_named_without_its_password(monkeypatch, caplog):
    tried = []

    def nothing(context, options, *, name, form=None):
        tried.append(options.get("rtsp_transport"))
        if len(tried) == 3:
            context.stop.set()
        yield from ()

    monkeypatch.setattr("runtime.capture.network.live_frames", nothing)
    monkeypatch.setattr("runtime.capture.network._FIRST_WAIT_S", 0.01)
    frames, _ = source("rtsp://user:secret@cam/1")
    assert list(frames) == []
    assert tried == ["tcp", "udp", "tcp"]
    assert "rtsp://cam/1 was opened and gave no picture" in caplog.text
    assert "secret" not in caplog.text


def test_a_folder_is_gone_through_once(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png", number)
    assert [frame.name for frame in source(tmp_path, fps=1000)[0]] == ["0", "1", "2"]


RPICAM = """\
#!{python}
import sys
import tempfile
words = sys.argv[1:]
told = {{name: words[words.index(name) + 1] for name in ("--width", "--height", "--framerate", "--codec", "--camera", "-o")}}
assert (told["--codec"], told["--camera"], told["-o"], "-n" in words) == ("yuv420", "1", "-", True)
width, height = int(told["--width"]), int(told["--height"])
assert width % 64 == 0  # or rows would be padded
for _ in range({count}):
    sys.stdout.buffer.write(bytes([81]) * width * height + bytes([90]) * (width * height // 4) + bytes([240]) * (width * height // 4))
"""  # noqa: E501


def on_path(monkeypatch, folder, count):
    tool = folder / "rpicam-vid"
    tool.write_text(RPICAM.format(python=sys.executable, count=count))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_raspberry_pi_s_camera_is_read_through_its_own_program(tmp_path, monkeypatch):
    on_path(monkeypatch, tmp_path, count=10**6)
    camera, stop = source("picamera:1", width=160, height=120)
    frames = iter(camera)
    frame = next(frames)
    assert frame.image.shape == (100, 160, 3)  # of 192x120
    red, green, blue = frame.image.reshape(-1, 3).mean(0)
    assert (red > 220, green < 30, blue < 30) == (True, True, True)  # Y, U, V of pure red
    stop.set()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("/dev/video99", 3, "/dev/video99: no such device; there is"),
        ("missing.mp4", 1, "no such file, folder or device"),
        ("empty", 1, "no pictures"),
        ("photo.mp4", 1, "cannot be read as a video"),
        ("gst:", 2, "a pipeline stands after the colon"),
        ("csi", 3, "gst-launch-1.0 is not installed"),
        ("picamera", 3, "rpicam-vid is not installed"),
        ("-", 2, "nothing is piped into edgesem"),
    ],
)
def test_a_source_that_is_not_there_is_told_before_anything_is_connected(
    tmp_path, monkeypatch, capsys, uri, code, words
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photo.mp4").write_bytes(b"no video at all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    terminal, ours = os.openpty()
    with socket.create_server(("127.0.0.1", 0)) as broker, open(ours) as stdin:
        broker.setblocking(False)
        monkeypatch.setattr(sys, "stdin", stdin)
        state = str(tmp_path / "state")
        assert main(["send", uri, "--port", str(broker.getsockname()[1]), "--state-dir", state]) == code
        with pytest.raises(BlockingIOError):
            broker.accept()
    os.close(terminal)
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("uri", ["/dev/null", "rtsp://127.0.0.1:9/cam", "clip.mp4"])
def test_a_missing_video_library_is_told_before_the_source_is_read(tmp_path, monkeypatch, uri):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r"\.\[video\]"):
        source(uri)


def test_a_folder_may_have_the_name_of_a_camera_or_lie_in_dev(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("csi-shots", "picamera2"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, "0.png", 0)
        assert [frame.name for frame in source(name, fps=1000)[0]] == ["0"]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        save(Path(folder), "0.png", 0)
        assert [frame.name for frame in source(folder, fps=1000)[0]] == ["0"]


def test_standard_input_that_ends_without_a_picture_is_an_error(monkeypatch):
    with open(os.devnull) as nothing, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", nothing)
        with pytest.raises(InputError, match="ended before its first picture"):
            list(source("-")[0])


def test_a_camera_s_number_is_asked_for_as_it_is_written():
    with pytest.raises(UsageError, match="such as picamera:0"):
        next(iter(source("picamera:x")[0]))


def test_a_camera_s_program_that_ends_or_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentMissing, match="rpicam-apps-lite"):
        next(iter(source("picamera:1")[0]))
    on_path(monkeypatch, tmp_path, count=0)
    with pytest.raises(EnvironmentMissing, match=r"has ended \(exit code 0\).*by hand: .*rpicam-vid"):
        list(source("picamera:1")[0])

"""Sources: a video file, a watched folder, PPM on standard input; as frames, in order, or a clear error."""

import io
import os
import sys
import threading

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgesem.errors import EnvironmentMissing, InputError
from runtime.capture.ppm import read_ppm
from runtime.capture.source import Source
from runtime.settings import SourceSettings

FPS = 20


def source(uri, fps=FPS, **settings):
    stop = threading.Event()
    return Source(SourceSettings(uri=str(uri), **settings), fps=fps, stop=stop), stop


def make_clip(path, count=5, size=(96, 64)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            grey = np.full((size[1], size[0], 3), 20 + 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


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


def test_a_folder_is_gone_through_once(tmp_path):
    for number in range(3):
        save(tmp_path, f"{number}.png", number)
    assert [frame.name for frame in source(tmp_path, fps=1000)[0]] == ["0", "1", "2"]


def ppm(image, comment=b" "):
    height, width, _ = image.shape
    return b"P6" + comment + b"%d %d\n255\n" % (width, height) + image.tobytes()


@given(
    st.lists(st.tuples(st.integers(64, 80), st.integers(64, 80)), max_size=3),
    st.sampled_from([b" ", b"\n", b"\r\n", b"\t "]),
    st.integers(0, 20000),
)
def test_piped_pictures_come_as_they_are_and_a_cut_one_ends_them(sizes, space, cut_bytes):
    pictures = [
        np.arange(width * height * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
        for width, height in sizes
    ]
    assert [image.tobytes() for image, _ in read_ppm(io.BytesIO(b"".join(ppm(p, space) for p in pictures)))] == [
        picture.tobytes() for picture in pictures
    ]
    if pictures:
        whole = ppm(pictures[-1], space)
        left = whole[: max(len(whole) - 1 - cut_bytes % len(whole), 0)]
        came = []
        try:
            came.extend(read_ppm(io.BytesIO(left)))
        except InputError:
            assert len(left) < 64
        assert came == []


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda data: b"P6 " + data)))
def test_any_bytes_are_pictures_or_an_input_error(data):
    try:
        for image, _ in read_ppm(io.BytesIO(data)):
            assert image.shape[2] == 3
    except InputError:
        pass


@pytest.mark.parametrize(
    "header", [b"P6 99999 99999 255\n", b"P6 63 64 255\n", b"P3 64 64 255\n", b"P6 64 64 65535\n", b"P6" + b" " * 100]
)
def test_a_header_is_refused_before_anything_is_read_for_it(header):
    stream = io.BytesIO(header + bytes(100))
    with pytest.raises(InputError):
        next(read_ppm(stream))
    assert stream.tell() <= len(header)


RPICAM = """\
#!{python}
import sys
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


def test_a_camera_s_program_that_ends_or_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentMissing, match="rpicam-apps-lite"):
        next(iter(source("picamera:1")[0]))
    on_path(monkeypatch, tmp_path, count=0)
    with pytest.raises(EnvironmentMissing, match=r"it has ended \(exit code 0\): .*rpicam-vid"):
        list(source("picamera:1")[0])

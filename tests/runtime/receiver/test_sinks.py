"""Files of received pictures."""

import io
import resource
from contextlib import contextmanager

import av
import numpy as np
import pytest
from PIL import Image

from edgesem.errors import InputError
from runtime.receiver.sinks import VideoSink, encode_picture


def picture(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def read(path):
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_a_video_has_each_picture_at_its_time(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv")
    for number, time_s in enumerate((100.0, 100.5, 103.0)):
        sink.write(picture(40 * number), time_s)
    sink.close()
    frames = read(tmp_path / "clip.mkv")
    assert [time_s for time_s, _ in frames] == pytest.approx([0, 0.5, 3.0], abs=0.002)
    assert [round(image.mean() / 40) for _, image in frames] == [0, 1, 2]


def test_a_video_that_was_never_finished_can_be_played(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv")
    for number in range(20):
        sink.write(picture(number), 100 + number)
    assert len(read(tmp_path / "clip.mkv")) >= 15
    sink.close()


def test_another_size_and_another_run_begin_the_next_file(tmp_path):
    for _ in range(2):
        sink = VideoSink(tmp_path / "clip.mkv")
        sink.write(picture(1), 1.0)
        sink.write(picture(1, 33, 35), 2.0)  # odd sides lose a line
        sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-2.mkv", "clip-3.mkv", "clip-4.mkv", "clip.mkv"]
    assert read(tmp_path / "clip-2.mkv")[0][1].shape == (32, 34, 3)


def test_a_long_video_is_followed_by_the_next_so_that_old_ones_can_be_deleted(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv", longest_s=0)
    names = [sink.write(picture(number), 100 + number).name for number in range(3)]
    sink.close()
    assert names == ["clip.mkv", "clip-2.mkv", "clip-3.mkv"]
    assert all(len(read(tmp_path / name)) == 1 for name in names)


def test_a_clock_that_goes_backwards_does_not_end_the_video(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv")
    for time_s in (100.0, 50.0, 50.1):
        sink.write(picture(9), time_s)
    sink.close()
    assert len(read(tmp_path / "clip.mkv")) == 3


def test_after_a_full_disk_the_video_goes_on_in_the_next_file(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    sink = VideoSink(tmp_path / "clip.mkv")

    def write(pictures):
        return [sink.write(noise, 2.0 * number) for number in range(pictures)]  # FFmpeg holds some back

    write(2)
    with largest_file(20_000), pytest.raises(InputError, match="cannot write"):
        write(9)
    assert set(write(9)) == {tmp_path / "clip-2.mkv"}
    with largest_file(20_000), pytest.raises(InputError, match="cannot finish"):
        sink.close()
    sink.close()
    assert len(read(tmp_path / "clip-2.mkv")) >= 5


@contextmanager
def largest_file(size_bytes):
    """A limit on this process that makes a write fail as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_video_where_it_cannot_be_is_an_error_with_its_name(tmp_path):
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(InputError, match=r"clip\.mkv"):
        VideoSink(tmp_path / "folder" / "clip.mkv").write(picture(1), 1.0)


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("jpg", "JPEG")])
def test_pictures_are_what_their_name_says(kind, name):
    with Image.open(io.BytesIO(encode_picture(picture(7), kind))) as image:
        assert (image.format, image.size) == (name, (64, 48))


def test_a_clock_that_jumps_neither_tears_the_video_apart_nor_squeezes_it(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv")
    for time_s in (100.0, 100.5, 90_000.0, 90_000.5):
        sink.write(picture(9), time_s)
    sink.close()
    times = [time_s for time_s, _ in read(tmp_path / "clip.mkv")]
    assert times[-1] < 5
    assert times[3] - times[2] == pytest.approx(0.5, abs=0.002)

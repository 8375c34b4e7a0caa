"""Reader of videos: which frames come, at which times, and what is refused."""

import numpy as np
import pytest

from edgesem.errors import InputError
from edgesem.video import find_videos, read_video, sample_video, video_info

av = pytest.importorskip("av")

RATE_HZ = 10


def write_clip(path, frames=20, codec="mpeg4"):
    """Grey frames, each 10 levels lighter than the one before."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(frames):
            grey = np.full((64, 96, 3), 20 + 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(frames):
    return [round((float(frame.rgb().mean()) - 20) / 10) for frame in frames]


@pytest.fixture(scope="module", params=["clip.mp4", "clip.mkv"])
def clip(request, tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("video") / request.param)


def test_all_frames_come_in_order_with_their_times(clip):
    frames = list(read_video(clip))
    assert numbers(frames) == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(20) / RATE_HZ, abs=1e-3)


@pytest.mark.parametrize(
    ("rate_hz", "wanted"), [(2, [0, 5, 10, 15]), (4, [0, 3, 5, 8, 10, 13, 15, 18]), (99, range(20))]
)
def test_a_rate_leaves_frames_out_evenly(clip, rate_hz, wanted):
    assert numbers(read_video(clip, rate_hz=rate_hz)) == list(wanted)


def test_a_start_skips_what_is_before_it(clip):
    assert numbers(read_video(clip, start_s=1.2, rate_hz=5)) == [12, 14, 16, 18]
    assert numbers(read_video(clip, start_s=1.75)) == [18, 19]
    with pytest.raises(InputError, match="from 5 s on"):
        list(read_video(clip, start_s=5))


def test_a_sample_is_spread_and_has_no_frame_twice(clip):
    assert numbers(sample_video(clip, 4)) == pytest.approx([2, 7, 12, 17], abs=1)
    many = numbers(sample_video(clip, 500))
    assert many == sorted(set(many))


def test_frames_are_scaled_when_they_are_asked_for(clip):
    frame = next(read_video(clip))
    assert (frame.width, frame.height) == (96, 64)
    assert frame.rgb(48, 32).shape == (32, 48, 3)
    assert frame.rgb().dtype == np.uint8


def test_the_headers_say_rate_and_length(clip):
    info = video_info(clip)
    assert info.rate_hz == RATE_HZ
    assert info.duration_s == pytest.approx(2.0, abs=0.1)


def test_a_raw_stream_without_times_plays_at_its_rate(tmp_path):
    clip = write_clip(tmp_path / "clip.m4v", frames=5)
    frames = list(read_video(clip))
    assert numbers(frames) == list(range(5))
    assert np.all(np.diff([frame.time_s for frame in frames]) > 0)


@pytest.mark.parametrize("content", [None, b"", b"no video", b"\0" * 4096])
@pytest.mark.parametrize("read", [read_video, lambda path: sample_video(path, 3), lambda path: [video_info(path)]])
def test_what_is_no_video_is_an_error_with_its_name(tmp_path, content, read):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"clip\.mp4"):
        list(read(path))


def test_videos_are_found_in_a_folder_or_as_one_file(tmp_path):
    for name in ("b.MKV", "a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_videos(tmp_path)] == ["a.mp4", "b.MKV"]
    assert find_videos(tmp_path / "a.mp4") == [tmp_path / "a.mp4"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        find_videos(tmp_path / "empty")

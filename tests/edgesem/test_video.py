"""Reader of videos: which frames come, at which times, and what is refused."""

import logging
import struct
from fractions import Fraction

import numpy as np
import pytest

from edgesem.errors import InputError
from edgesem.video import VideoFrame, find_videos, read_video, sample_video, video_info
from tests.support.videos import greys, write_video

av = pytest.importorskip("av")

RATE_HZ = 10


def write_clip(path, frames=20, **more):
    """Grey frames, each 10 levels lighter than the one before."""
    levels = [min(20 + 10 * number, 255) for number in range(frames)]
    return write_video(path, greys(levels), rate=RATE_HZ, **more)


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


def coloured_clip(path, size=(96, 64), codec="mpeg4", count=3, matrix=None, **of_stream):
    """A picture with a red upper left corner, a blue lower right one and green elsewhere."""
    width, height = size
    picture = np.full((height, width, 3), (40, 180, 60), np.uint8)
    picture[: height // 2, : width // 2] = 200, 30, 30
    picture[height // 2 :, width // 2 :] = 30, 30, 200
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 8_000_000
        for name, value in of_stream.items():
            setattr(stream.codec_context, name, value)
        for _ in range(count):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def give_matrix(path, a, b, c, d):
    """Write a display matrix into the track header of an MP4 file, as phones do."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    parts = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[place : place + 36] = struct.pack(">9i", *parts)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda picture: picture),
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
        ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
        ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    ],
)
def test_a_video_is_shown_upright(tmp_path, matrix, turn):
    path = coloured_clip(tmp_path / "phone.mp4")
    stored = next(read_video(path)).rgb()
    give_matrix(path, *matrix)
    for frame in (next(read_video(path)), next(sample_video(path, 1))):
        shown = turn(stored)
        assert np.array_equal(frame.rgb(), shown)
        assert (frame.height, frame.width) == shown.shape[:2]
        assert frame.rgb(30, 20).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("aspect", "shown"),
    [((1, 1), (96, 64)), ((3, 2), (144, 64)), ((2, 3), (96, 96)), ((0, 1), (96, 64)), ((100, 1), (96, 64))],
)
def test_pixels_that_are_not_square_do_not_squeeze_the_picture(tmp_path, aspect, shown):
    path = coloured_clip(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(*aspect))
    frame = next(read_video(path))
    assert (frame.width, frame.height) == shown
    assert frame.rgb().shape == (*shown[::-1], 3)


@pytest.mark.parametrize(("size", "matrix"), [((960, 544), "ITU601"), ((1280, 720), "ITU709")])
def test_a_video_without_a_colour_matrix_is_bt709_from_720_lines_on(tmp_path, size, matrix):
    path = coloured_clip(tmp_path / "a.mp4", size=size, matrix=matrix)
    shown = next(read_video(path)).rgb()
    width, height = size
    for (x, y), colour in (((0.25, 0.25), (200, 30, 30)), ((0.75, 0.75), (30, 30, 200)), ((0.75, 0.25), (40, 180, 60))):
        assert np.abs(shown[int(y * height), int(x * width)].astype(int) - colour).max() <= 8


def test_a_matrix_that_is_named_is_used(tmp_path):
    small = coloured_clip(tmp_path / "a.mp4", matrix="ITU709", codec="libx264", colorspace=1)
    large = coloured_clip(tmp_path / "b.mp4", size=(1280, 720), matrix="ITU601", codec="libx264", colorspace=6)
    for path in (small, large):
        shown = next(read_video(path)).rgb()
        assert np.abs(shown[shown.shape[0] // 4, shown.shape[1] // 4].astype(int) - (200, 30, 30)).max() <= 12


def remuxed(source, path, shift_s):
    """The same packets, later; written as they are."""
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(reader.streams.video[0]):
            if packet.dts is None:
                continue
            shift = round(shift_s(packet) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = stream
            writer.mux(packet)
    return path


@pytest.mark.parametrize("name", ["b.mkv", "b.ts"])
def test_times_count_from_the_first_frame(tmp_path, name):
    path = remuxed(write_clip(tmp_path / f"a{name}"), tmp_path / name, lambda _: 3600)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).time >= 3600
    frames = list(read_video(path))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(20) / RATE_HZ, abs=2e-3)
    assert numbers(read_video(path, start_s=1.2, rate_hz=5)) == [12, 14, 16, 18]
    assert numbers(sample_video(path, 4)) == pytest.approx([2, 7, 12, 17], abs=1)
    assert video_info(path).duration_s == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("jump_s", [-50, 500])
def test_a_clock_that_jumps_goes_on(tmp_path, jump_s):
    early, late = write_clip(tmp_path / "a.ts", 10), write_clip(tmp_path / "b.ts", 10)
    moved = remuxed(late, tmp_path / "moved.ts", lambda _: 100 + jump_s)
    first = remuxed(early, tmp_path / "first.ts", lambda _: 100)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + moved.read_bytes())
    times = [frame.time_s for frame in read_video(joined)]
    assert len(times) >= 19  # FFmpeg takes one at the seam for corrupt
    assert 0.09 < min(np.diff(times)) <= max(np.diff(times)) < 0.21


@pytest.mark.parametrize("kind", ["h264", "m4v"])
def test_a_raw_stream_is_paced_by_the_rate_that_it_names(tmp_path, kind):
    path = write_clip(tmp_path / f"a.{kind}", codec="libx264" if kind == "h264" else "mpeg4")
    frames = list(read_video(path))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(20) / RATE_HZ, abs=2e-3)
    assert video_info(path).rate_hz == RATE_HZ


def broken_mjpeg(path, broken=(3,), count=8):
    """Motion JPEG some of whose frames hold nothing that can be decoded."""
    write_clip(path, count, codec="mjpeg", pix_fmt="yuvj420p")
    data, place = bytearray(path.read_bytes()), 0
    for number in range(count):
        place = data.index(b"\xff\xd8", place)
        end = data.index(b"\xff\xd9", place)
        if number in broken:
            data[place:end] = bytes(end - place)
        place = end
    path.write_bytes(data)
    return path


def test_a_broken_frame_is_left_out_and_counted(tmp_path, caplog):
    path = broken_mjpeg(tmp_path / "a.avi", broken=(0, 3, 4))
    left_out = []
    assert numbers(read_video(path, on_left_out=left_out.append)) == [1, 2, 5, 6, 7]
    assert len(left_out) == 3
    with caplog.at_level(logging.WARNING):
        assert len(list(read_video(path))) == 5
    assert [str(path) in one.message for one in caplog.records] == [True, True]  # the first, and how many
    assert "3 frames" in caplog.text


def test_a_video_of_broken_frames_alone_is_an_error(tmp_path):
    path = broken_mjpeg(tmp_path / "a.avi", broken=range(8))
    with pytest.raises(InputError, match="no picture"):
        list(read_video(path))


def write_noise(path, count, codec):
    """A picture of fine detail that moves, so that every frame has some kilobytes."""
    noise = np.random.default_rng(4).integers(0, 256, (64 + count, 96, 3), np.uint8)
    pictures = [np.ascontiguousarray(noise[number : number + 64]) for number in range(count)]
    return write_video(path, pictures, rate=25, codec=codec)


def test_frames_that_ffmpeg_marks_as_corrupt_are_left_out(tmp_path):
    path = write_noise(tmp_path / "a.ts", 60, "mpeg2video")
    data = bytearray(path.read_bytes())
    packets = [place for place in range(0, len(data), 188) if data[place + 1] & 0x1F == 1]  # of the video, PID 0x100
    for place in packets[20:80:7]:
        data[place + 60 : place + 180] = bytes(range(60, 180))
    path.write_bytes(data)
    with av.open(str(path)) as container:
        wanted = sum(not frame.is_corrupt for frame in container.decode(video=0))
    left_out = []
    frames = list(read_video(path, on_left_out=left_out.append))
    assert 0 < len(left_out) <= 60 - len(frames)
    assert len(frames) <= wanted < 60


def test_a_frame_by_itself_has_its_pixels():
    grey = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 77, np.uint8), format="rgb24")
    frame = VideoFrame(grey, 0.0)
    assert (frame.width, frame.height) == (96, 64)
    assert set(frame.rgb().ravel().tolist()) == {77}

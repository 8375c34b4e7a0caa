"""Files of received pictures."""

import io
import json

import av
import numpy as np
import pytest
from PIL import Image

from edgesem.errors import InputError
from runtime.daemon.homeassistant import discovery, jpeg_topic
from runtime.protocol.topics import Topics
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


def test_a_clock_that_goes_backwards_does_not_end_the_video(tmp_path):
    sink = VideoSink(tmp_path / "clip.mkv")
    for time_s in (100.0, 50.0, 50.1):
        sink.write(picture(9), time_s)
    sink.close()
    assert len(read(tmp_path / "clip.mkv")) == 3


def test_a_video_where_it_cannot_be_is_an_error_with_its_name(tmp_path):
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(InputError, match=r"clip\.mkv"):
        VideoSink(tmp_path / "folder" / "clip.mkv").write(picture(1), 1.0)


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("jpg", "JPEG")])
def test_pictures_are_what_their_name_says(kind, name):
    with Image.open(io.BytesIO(encode_picture(picture(7), kind))) as image:
        assert (image.format, image.size) == (name, (64, 48))


def test_home_assistant_hears_of_a_camera_on_a_topic_that_it_can_have():
    topics = Topics("my home", "cam/1".replace("/", "."), "main")
    topic, payload = discovery(topics)
    assert topic.startswith("homeassistant/camera/edgesem_my_home_cam_1_main_")
    assert topic.endswith("/config")
    config = json.loads(payload)
    assert config["topic"] == jpeg_topic(topics)
    assert not config["topic"].startswith("homeassistant")
    other, _ = discovery(Topics("my_home", "cam.1", "main"))
    assert other != topic

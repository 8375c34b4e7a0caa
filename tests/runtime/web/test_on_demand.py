"""The live page draws what somebody looks at: the newest frame at once when he comes, and nothing before."""

import io
import json
import threading
import urllib.request
from types import SimpleNamespace

import pytest
from PIL import Image

from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.receive_settings import OutSettings
from runtime.receiver.viewing import Viewing
from tests.support.publishing import DEADLINE_S, frame
from tests.support.real_broker import needs_mosquitto
from tests.support.receive_daemon import Camera, ReceiveDaemon
from tests.support.web_client import get

pytestmark = needs_mosquitto
NAME = "test/idle/main"


def newest(daemon):
    return json.loads(get(f"{daemon.url}streams.json"))["streams"][0]["picture"]


def test_a_page_that_nobody_looks_at_draws_nothing_and_the_newest_frame_is_there_for_who_comes(broker):
    with Camera(broker, "idle") as camera, ReceiveDaemon(broker, "test/idle/+", "--http", "0") as daemon:
        number = camera.send_until_heard()
        assert daemon.next("picture")["drawn"] is False
        daemon.skip()
        assert newest(daemon)["frame"] == number - 1  # age and figures are those of the newest frame
        with Image.open(io.BytesIO(get(f"{daemon.url}{NAME}.jpg?1"))) as picture:
            assert picture.size == (160, 112)
        camera.send(frame(number))
        assert daemon.next("picture")["drawn"] is False  # a picture that is named in the query is no look
        get(f"{daemon.url}streams.json?view={NAME}")
        camera.send(frame(number + 1))
        assert daemon.next("picture")["drawn"] is True
        assert newest(daemon)["frame"] == number + 1
        assert daemon.end()["pictures"] == len(daemon.of("picture", lambda event: event))


def test_a_video_begins_with_the_newest_frame_and_goes_on_with_the_next(broker):
    with Camera(broker, "idle") as camera, ReceiveDaemon(broker, "test/idle/+", "--http", "0") as daemon:
        number, parts, first = camera.send_until_heard(), [], threading.Event()
        daemon.next("picture")

        def follow():
            with urllib.request.urlopen(f"{daemon.url}{NAME}.mjpg?repeat=10", timeout=DEADLINE_S) as stream:
                while len(parts) < 3:
                    if (line := stream.readline()).startswith(b"Content-Length"):
                        parts.append(int(line.split()[1]))
                        first.set()

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        assert first.wait(DEADLINE_S)
        camera.send(frame(number))
        reader.join(DEADLINE_S)
        assert len(parts) == 3
        daemon.skip()


@pytest.mark.parametrize(
    ("settings", "view", "needed"),
    [
        ({}, "page", False),
        ({}, "always", True),
        ({"kind": "archive"}, "page", False),
        ({"kind": "none"}, "page", False),
        ({"kind": "jpg"}, "page", True),
        ({"kind": "mkv"}, "page", True),
        ({"jpeg_topic": True}, "page", True),
        ({"home_assistant": True}, "never", True),
        ({"http": "0"}, "page", False),
    ],
)
def test_a_picture_is_drawn_where_it_goes_anywhere(tmp_path, settings, view, needed):
    outputs = PictureOutputs(OutSettings(folder=tmp_path, **settings), lambda _: None)
    viewing = Viewing(list, pytest.fail, mode=view)
    outputs.receiver = SimpleNamespace(viewing=viewing)
    assert outputs.needs_image(NAME, frame(1)) is needed
    assert outputs.needs_image(NAME, frame(1, promised=True))
    viewing.close()


@pytest.mark.parametrize("view", ["page", "never"])
def test_who_looks_is_shown_pictures_also_where_no_sender_is_told(view):
    viewing = Viewing(list, pytest.fail, mode=view)
    outputs = PictureOutputs(OutSettings(http="0"), lambda _: None)
    outputs.receiver = SimpleNamespace(viewing=viewing)
    viewing.look(NAME, 60)
    assert outputs.needs_image(NAME, frame(1))
    assert not outputs.needs_image("test/other/main", frame(1))
    assert viewing.is_watched(NAME) is (view == "page")
    viewing.close()

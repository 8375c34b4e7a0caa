"""A late receiver on a thin and long link: a picture within a round trip of its request, which then becomes finer."""

import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from edgesem.bundle.bundle import DEFAULT
from edgesem.entropy.schedule import reference_graph
from edgesem.files import read_picture
from edgesem.quality.metrics import ms_ssim
from runtime import Address, ReceiverOptions, SenderOptions, StreamReceiver, StreamSender
from runtime.bench.relay import Relay
from runtime.capture.frame import PHOTOS
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.topics import Topics
from runtime.sender.events import CommandTaken, FramePacked
from runtime.sender.message_format import MessageFormat
from tests.support.delay_line import DelayLine
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec
from tests.support.real_broker import Mosquitto

STREAM, INTERVAL_S, RTT_S = "home/mast/main", 2.0, 0.4
pytestmark = [
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not (DEFAULT / reference_graph(0)).is_file(), reason="the default bundle has no references"),
]


class Camera:
    """A sender of a scene that stands still, and when it did what."""

    def __init__(self, port, picture, folder):
        self.did, self._end = [], threading.Event()
        self._sender = StreamSender(
            Address("127.0.0.1", port, user="u", password="p"),
            STREAM,
            SenderOptions(fps=1 / INTERVAL_S, max_bytes=1200),
            codec=codec(),
            folder=folder,  # with which it has a birth
            on_event=lambda event: self.did.append((time.monotonic(), event)),
        )
        self._thread = threading.Thread(target=self._film, args=(picture,))

    def __enter__(self):
        self._sender.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        self._sender.__exit__()

    def _film(self, picture):
        while not self._end.wait(0.1):
            self._sender.offer(picture)

    def packed(self, since_s=0.0):
        return [(at_s, event) for at_s, event in list(self.did) if isinstance(event, FramePacked) and at_s >= since_s]


@pytest.mark.long
def test_it_gets_a_picture_within_a_round_trip_that_climbs_without_a_burst(tmp_path, capfd):
    picture = np.ascontiguousarray(read_picture(PHOTOS / "11_football.jpg")[100:356, 100:356])
    broker = Mosquitto(tmp_path / "broker")
    try:
        with (
            DelayLine(("127.0.0.1", broker.port), RTT_S / 2) as line,
            Relay(target=("127.0.0.1", line.port), rate_bps=24_000) as relay,
            StreamReceiver(Address("127.0.0.1", broker.port, user="u", password="p"), STREAM) as first,
            Camera(relay.port, picture, tmp_path / "camera") as camera,
        ):
            until_s = time.monotonic() + WAIT_S
            while sum(event.refers_to is not None for _, event in camera.packed()) < 5:
                first.next_picture(0.1)
                assert time.monotonic() < until_s
            joined_s, shown = time.monotonic(), []
            address = Address("127.0.0.1", broker.port, user="u", password="p")
            with StreamReceiver(address, STREAM, ReceiverOptions(decoders=1)) as late:
                while len(shown) < 6:
                    first.next_picture(0.0)
                    if (one := late.next_picture(0.1)) is not None:
                        shown.append((time.monotonic(), one))
                    assert time.monotonic() < joined_s + WAIT_S
    finally:
        broker.kill()
    asked_s = next(at_s for at_s, event in camera.did if isinstance(event, CommandTaken) and event.kind == "key")
    key_s, key = camera.packed(asked_s)[0]
    assert key.refers_to is None
    assert key_s - asked_s < INTERVAL_S / 2  # at once, and not when the next frame is due
    assert shown[0][1].packet.frame == key.frame
    assert shown[0][0] - asked_s < INTERVAL_S
    message_format = MessageFormat(Topics.named(STREAM), None)
    for _, event in camera.packed():
        small = event.size_bytes + message_format.around_bytes <= message_format.whole_bytes
        around_bytes = message_format.around_bytes if small else message_format.around_frame_bytes
        assert event.size_bytes + around_bytes <= event.budget_bytes <= 1200
    quality = [ms_ssim(picture, one.image) for _, one in shown]
    with capfd.disabled():
        shown_s = shown[0][0] - asked_s
        print(f"keyframe after {key_s - asked_s:.3f} s, shown after {shown_s:.2f} s, MS-SSIM {np.round(quality, 4)}")
    assert quality[-1] > quality[0] + 0.01
    assert all(after > before - 0.002 for before, after in pairwise(quality))

"""Pictures on the JPEG topic: one at a time for each stream, and one that was refused holds up none."""

from types import SimpleNamespace

import numpy as np

from edgesem.errors import LinkError
from edgesem.provenance import Provenance
from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.receive_settings import OutSettings
from runtime.protocol.topics import Topics
from runtime.receiver.received_picture import ReceivedPicture
from tests.support.publishing import codec, frame

TOPICS = Topics("home", "cam", "main")
PIXELS = np.zeros((16, 16, 3), np.uint8)


def test_a_picture_waits_for_the_one_before_and_not_for_one_that_was_refused():
    tried, confirms, refuses = [], [], iter([True, False, False])

    def publish(_topic, payload, *, retain, confirm):
        tried.append(payload)
        if next(refuses):
            raise LinkError("the broker takes 20 messages at a time")
        confirms.append(confirm)

    out = PictureOutputs(OutSettings(jpeg_topic=True), lambda _: None)
    streams = SimpleNamespace(find=lambda _: None)
    out.receiver = SimpleNamespace(connection=SimpleNamespace(publish=publish), streams=streams, stop=lambda: None)
    tries = []
    for number in range(4):
        packet = frame(number)
        provenance = Provenance.of(packet, codec().bundle)
        out.put(ReceivedPicture("home/cam/main", TOPICS, packet, PIXELS, 0, 0.0, 0.0, provenance))
        tries.append(len(tried))
        if number == 2:
            confirms.pop()()
    assert tries == [1, 2, 2, 3]  # refused, published, left out, published

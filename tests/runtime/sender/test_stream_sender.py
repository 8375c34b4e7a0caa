"""Sending in a few lines: what is offered is seen at the other end, what is promised is kept there."""

import numpy as np
import pytest

from edgesem.errors import UsageError
from edgesem.files import read_picture
from runtime.mqtt.connection import Address
from runtime.mqtt.mosquitto import find_tool
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.sender.stream_sender import StreamSender
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec
from tests.support.real_broker import Mosquitto, draw_pictures

STREAM = "home/mine/main"


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
def test_what_is_offered_is_shown_and_what_is_promised_is_kept(tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    address = Address("127.0.0.1", broker.port, user="u", password="p")
    pictures = [read_picture(path) for path in sorted(draw_pictures(tmp_path / "pictures").iterdir())]
    here, key = tmp_path / "here", bytes(range(32))
    try:
        with (
            StreamReceiver(address, "home/+/+", workers=1, folder=tmp_path / "there", key=key) as stream_receiver,
            StreamSender(address, STREAM, fps=20, codec=codec(), folder=here, key=key) as stream_sender,
        ):
            stream_sender.promise(pictures[0])
            shown = iter(stream_receiver.pictures())
            while not next(shown).packet.promised:
                stream_sender.offer(pictures[1])
            stream_sender.offer(pictures[2])
            received = next(shown)
            stream = stream_receiver.streams.find(STREAM)
            assert received.image.shape == pictures[2].shape
            assert (stream.birth.sealed, stream.state.up) == (True, True)
            with stream_sender.sender.publisher.changed:
                assert stream_sender.sender.publisher.changed.wait_for(
                    lambda: not stream_sender.sender.state().promised_waiting, WAIT_S
                )
        assert len(list((tmp_path / "there").rglob("promised/*.es"))) == 1
    finally:
        broker.kill()


def test_a_sealed_or_promising_one_needs_a_folder(tmp_path):
    address = Address("127.0.0.1", 1)
    with pytest.raises(UsageError, match="folder"):
        StreamSender(address, STREAM, codec=codec(), key=bytes(32))
    with pytest.raises(UsageError, match="no spool"):
        StreamSender(address, STREAM, codec=codec()).promise(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match="SITE/DEVICE/STREAM"):
        StreamSender(address, "home/mine", codec=codec())

"""Sending in a few lines: what is offered is seen at the other end, what is promised is kept there."""

import numpy as np
import pytest

from edgesem.errors import UsageError
from edgesem.files import read_picture
from runtime.mqtt.connection import Address
from runtime.mqtt.mosquitto import find_tool
from runtime.receiver.stream_receiver import Reception
from runtime.sender.stream_sender import Transmission
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
            Reception(address, "home/+/+", workers=1, folder=tmp_path / "there", key=key) as reception,
            Transmission(address, STREAM, fps=20, codec=codec(), folder=here, key=key) as transmission,
        ):
            transmission.promise(pictures[0])
            shown = iter(reception.pictures())
            while not next(shown).packet.promised:
                transmission.offer(pictures[1])
            transmission.offer(pictures[2])
            received = next(shown)
            stream = reception.streams.find(STREAM)
            assert received.image.shape == pictures[2].shape
            assert (stream.birth.sealed, stream.state.up) == (True, True)
            with transmission.sender.outbox.changed:
                assert transmission.sender.outbox.changed.wait_for(
                    lambda: not transmission.sender.state().promised_waiting, WAIT_S
                )
        assert len(list((tmp_path / "there").rglob("promised/*.es"))) == 1
    finally:
        broker.kill()


def test_a_sealed_or_promising_one_needs_a_folder(tmp_path):
    address = Address("127.0.0.1", 1)
    with pytest.raises(UsageError, match="folder"):
        Transmission(address, STREAM, codec=codec(), key=bytes(32))
    with pytest.raises(UsageError, match="no spool"):
        Transmission(address, STREAM, codec=codec()).promise(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match="SITE/DEVICE/STREAM"):
        Transmission(address, "home/mine", codec=codec())

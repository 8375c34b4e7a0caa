"""A sender on a link that is thin and long: it connects, asks once, and what is promised arrives in short messages."""

import time

import numpy as np
import pytest

from runtime import Address, ReceiverOptions, SenderOptions, StreamReceiver, StreamSender
from runtime.bench.relay import Relay
from runtime.mqtt import session as session_module
from runtime.sender import size_limits
from runtime.sender.events import PromiseKept
from tests.support.delay_line import DelayLine
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec
from tests.support.real_broker import Mosquitto, needs_mosquitto

STREAM = "home/far/main"
PUBLISH, SUBSCRIBE = 3, 8
pytestmark = needs_mosquitto


@pytest.fixture
def port(tmp_path):
    """Of a real broker."""
    broker = Mosquitto(tmp_path / "broker")
    yield broker.port
    broker.kill()


def address(port):
    return Address("127.0.0.1", port, user="u", password="p")


@pytest.mark.parametrize(
    ("rtt_s", "rate_bps", "tenfold"),
    [
        pytest.param(0.5, 10_000, True, id="ten-times-as-fast"),
        pytest.param(5.0, 1_000, False, marks=pytest.mark.long, id="5s-1kbit"),
    ],
)
def test_a_promised_frame_arrives_once_in_messages_shorter_than_the_keep_alive(
    tmp_path, port, monkeypatch, rtt_s, rate_bps, tenfold
):
    if tenfold:  # all times of the other case, a tenth
        monkeypatch.setattr(session_module, "_KEEP_ALIVE_S", 2)
        monkeypatch.setattr(size_limits, "_PIECE_S", 0.4)
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    events, key = [], bytes(32)
    with (
        StreamReceiver(
            address(port), "home/+/+", ReceiverOptions(decoders=1), folder=tmp_path / "there", key=key
        ) as receiver,
        DelayLine(("127.0.0.1", port), rtt_s / 2) as line,
        Relay(target=("127.0.0.1", line.port), rate_bps=rate_bps) as relay,
        StreamSender(
            address(relay.port),
            STREAM,
            SenderOptions(),
            codec=codec(),
            folder=tmp_path / "here",
            key=key,
            on_event=events.append,
        ) as sender,
    ):
        handle = sender.promise(picture, max_bytes=3000)
        assert handle.wait(2 * WAIT_S)
        shown = receiver.next_picture(WAIT_S)
        assert shown.packet.promised
        assert receiver.next_picture(0.0) is None
        assert sender.connection.reconnects == 0
        packets = line.packets()
    kept = [event for event in events if isinstance(event, PromiseKept)]
    assert [event.frame for event in kept] == [shown.packet.frame]
    assert len(list((tmp_path / "there").rglob("promised/*.es"))) == 1
    assert [kind for kind, _ in packets].count(SUBSCRIBE) == 1
    longest_s = max(8 * size / rate_bps for kind, size in packets if kind == PUBLISH)
    assert shown.packet.size_bytes > 2500
    assert longest_s < (0.6 if tenfold else 6)


def test_what_the_broker_has_confirmed_of_a_large_frame_is_not_sent_again_on_the_next_connection(
    tmp_path, port, monkeypatch
):
    monkeypatch.setattr(size_limits.SizeLimits, "promised_message_bytes", lambda _: 1000)
    picture = np.random.default_rng(1).integers(0, 256, (384, 384, 3), np.uint8)
    with (
        StreamReceiver(address(port), "home/+/+", ReceiverOptions(decoders=1), folder=tmp_path / "there"),
        Relay(target=("127.0.0.1", port), rate_bps=100_000) as relay,
        StreamSender(address(relay.port), STREAM, codec=codec(), folder=tmp_path / "here") as sender,
    ):
        handle, counters = sender.promise(picture, max_bytes=30_000), sender.pipeline.counters
        until_s = time.monotonic() + WAIT_S
        while counters.pieces < 12:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        sender.connection.reconnect("to see")
        assert handle.wait(WAIT_S)
        assert sender.connection.reconnects == 1
        (kept,) = (tmp_path / "there").rglob("promised/*.es")
        needed = kept.stat().st_size / 900
        assert needed > 16
        assert counters.pieces < needed + 8  # what was on its way, and not the 12 of before


def test_a_round_trip_that_grows_within_a_connection_is_measured_anew(tmp_path, port):
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    with (
        DelayLine(("127.0.0.1", port), 0.01) as line,
        Relay(target=("127.0.0.1", line.port), rate_bps=200_000) as relay,
        StreamSender(address(relay.port), STREAM, SenderOptions(fps=10), codec=codec(), folder=tmp_path) as sender,
    ):
        sender.pipeline._control.rtt_window_s = 1.0  # in place of ten

        def rtt_s(condition):
            until_s = time.monotonic() + WAIT_S
            while not condition(sender.pipeline.state().rtt_s or 0.0):
                assert time.monotonic() < until_s
                sender.offer(picture)
                time.sleep(0.02)  # the camera
            return sender.pipeline.state().rtt_s

        assert rtt_s(lambda value: 0.02 < value < 0.2) < 0.2
        line.delay_s = 0.3
        assert rtt_s(lambda value: value > 0.6) < 1.5
        assert sender.connection.reconnects == 0

"""Sender, relay, broker and receiver together over real TCP: a thin link is filled, and its rate is learnt."""

import queue
from dataclasses import replace

import pytest

from runtime.bench.relay import Relay
from runtime.capture.frame import PHOTOS
from runtime.capture.samples import sample_frames
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.sender.events import LayersAcknowledged, LayersSent
from runtime.sender.options import SenderOptions
from runtime.sender.stream_sender import StreamSender
from tests.support.publishing import DEADLINE_S, codec, wait_for
from tests.support.real_broker import needs_mosquitto

RATE_BPS = 200e3
STREAM = "test/thin/main"

pytestmark = needs_mosquitto


@pytest.fixture
def receiver(broker):
    """A receiver that is connected straight to the broker."""
    options = ReceiverOptions(decoders=1, limits=Limits(backlog=100))
    with StreamReceiver(broker.address, "test/thin/+", options) as running:
        wait_for(lambda: running.connection.connected)
        yield running


def test_a_stream_fills_a_thin_link_and_learns_its_rate(broker, receiver):
    events = queue.Queue()
    with Relay(target=(broker.address.host, broker.address.port), rate_bps=RATE_BPS) as relay:
        sender = StreamSender(
            replace(broker.address, port=relay.port),
            STREAM,
            SenderOptions(fps=5, most_receivers=0),
            codec=codec(),
            on_event=events.put,
        )
        with sender:
            numbers = []
            for photo in sample_frames(PHOTOS, 10):
                sender.offer(photo.image)
                numbers.append(receiver.next_picture(DEADLINE_S).packet.frame)
            wait_for(lambda: sender.pipeline.idle)
            capacity_bps = sender.pipeline.state().capacity_bps
    counters = receiver.streams.find(STREAM).inbox.counters
    assert (counters.malformed, counters.undecodable, counters.dropped) == (0, 0, 0)
    told = [events.get() for _ in range(events.qsize())]
    sent = [event for event in told if isinstance(event, LayersSent)]
    acked = [event for event in told if isinstance(event, LayersAcknowledged)]
    assert [sum(event.layers for event in events) for events in (sent, acked)] == [counters.layers] * 2
    assert numbers == sorted(numbers)
    # A stalled machine makes the link look slower than it is; nothing but an error makes it look much faster.
    assert 0.3 * RATE_BPS < capacity_bps < 2 * RATE_BPS
    assert relay.forwarded_bytes > sum(event.size_bytes for event in sent)

"""What Prometheus is told of a receiver."""

from dataclasses import asdict, fields
from types import SimpleNamespace

import pytest

from runtime.daemon.receiver_metrics import metrics_of
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.streams import Streams
from runtime.web.gallery import Gallery
from tests.support.publishing import plain

pytest.importorskip("prometheus_client")


def test_every_counter_of_a_stream_is_told():
    streams = Streams(bundle_ids=[7], publish=lambda *_: None)
    streams.on_message("edgesem/v1/home/cam/main/pkt/0", plain(1).prefix(1).to_bytes())
    (stream,) = streams.all()
    values = {field.name: 1000 + number for number, field in enumerate(fields(ReceiverCounters))}
    stream.inbox.counters = ReceiverCounters(**values)
    receiver = SimpleNamespace(streams=streams, connection=SimpleNamespace(connected=True), decoders=1)
    lines = metrics_of(receiver, Gallery())().decode().splitlines()
    told = {float(line.split()[-1]) for line in lines if 'stream="main"' in line}
    assert {name for name, value in asdict(stream.inbox.counters).items() if value not in told} == set()

"""Metrics of a sender for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgesem.errors import EnvironmentMissing
from runtime.daemon.state_metrics import LABELS, labels_of, state_metrics
from runtime.protocol.topics import Topics
from runtime.sender.pipeline import SenderPipeline
from runtime.settings import ListenAddress

_PREFIX = "edgesem_sender_"


class _Collector:
    """Prometheus collector: reads the sender's state whenever it is asked, so that nothing is counted twice."""

    def __init__(self, pipeline: SenderPipeline, topics: Topics) -> None:
        self._pipeline, self._topics = pipeline, topics

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

        state, counters, labels = self._pipeline.state(), self._pipeline.counters, labels_of(self._topics)
        yield from state_metrics(_PREFIX, [(self._topics, state)])
        other_bundle = CounterMetricFamily(
            _PREFIX + "other_bundle", "times that a receiver said it does not have our bundle", labels=LABELS
        )
        other_bundle.add_metric(labels, counters.other_bundle)
        yield other_bundle
        encode = SummaryMetricFamily(_PREFIX + "encode_seconds", "time to analyze and pack", labels=LABELS)
        encode.add_metric(labels, state.frames, counters.encode_s)
        yield encode


def serve_metrics(where: str, pipeline: SenderPipeline, topics: Topics) -> None:
    """Answer Prometheus at `HOST:PORT` for as long as the process lives. EnvironmentMissing if the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server

    address = ListenAddress.parse(where, "monitor.metrics")
    registry = CollectorRegistry()
    registry.register(_Collector(pipeline, topics))
    try:
        start_http_server(address.port, addr=address.host, registry=registry)
    except OSError as error:
        raise EnvironmentMissing(f"no metrics at {where}: {error.strerror}; name another monitor.metrics") from error

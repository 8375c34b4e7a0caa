"""Metrics of a sender for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgesem.errors import EnvironmentMissing
from runtime.protocol.topics import Topics
from runtime.sender.pipeline import SenderPipeline
from runtime.settings import ListenAddress

_LABELS = ("site", "device", "stream")


class _Collector:
    """Prometheus collector: reads the sender's state whenever it is asked, so that nothing is counted twice."""

    def __init__(self, pipeline: SenderPipeline, topics: Topics) -> None:
        self._pipeline = pipeline
        self._labels = (topics.site, topics.device, topics.stream)

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

        state = self._pipeline.state()
        for name, about, value in (
            ("capacity_bps", "Rate that the link bears, from confirmed bytes", state.capacity_bps),
            ("rtt_seconds", "Smallest round trip to the broker", state.rtt_s),
            ("window_bytes", "Most that may be under way", state.window_bytes),
            ("budget_bytes", "What the newest frame was given", state.budget_bytes),
            ("delivered_age_seconds", "Since the capture of the newest frame that a receiver has", state.age_s),
            ("spooled_frames", "Promised frames that no receiver has yet", state.promised_waiting),
            ("connected", "1 while there is a connection to the broker", int(state.up)),
        ):
            gauge = GaugeMetricFamily(f"edgesem_sender_{name}", about, labels=_LABELS)
            if value is not None:
                gauge.add_metric(self._labels, value)
            yield gauge
        for name, about, value in (
            ("sent_bytes", "Bytes of all messages", state.sent_bytes),
            ("frames", "Frames encoded", state.frames),
            ("skipped_frames", "Frames left out, because the link had no room", state.skipped),
            ("layers_dropped", "Layers that a newer frame pre-empted", state.dropped_layers),
            ("promised_refused", "Promised frames that the disk had no room for", state.promised_refused),
            ("promised_rejected", "Promised frames that nobody takes", state.promised_rejected),
            ("promised_lost", "Promised frames that a damaged disk has lost", state.promised_lost),
            ("refused", "Messages that the broker has refused", state.refused),
            ("reconnects", "Connections made anew", state.reconnects),
        ):
            counter = CounterMetricFamily(f"edgesem_sender_{name}", about, labels=_LABELS)
            counter.add_metric(self._labels, value)
            yield counter
        encode = SummaryMetricFamily("edgesem_sender_encode_seconds", "Time to analyze and pack", labels=_LABELS)
        encode.add_metric(self._labels, state.frames, self._pipeline.counters.encode_s)
        yield encode


def serve_metrics(where: str, pipeline: SenderPipeline, topics: Topics) -> None:
    """Answer Prometheus at `HOST:PORT` for as long as the process lives. EnvironmentMissing if the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server

    address = ListenAddress.parse(where)
    registry = CollectorRegistry()
    registry.register(_Collector(pipeline, topics))
    try:
        start_http_server(address.port, addr=address.host, registry=registry)
    except OSError as error:
        raise EnvironmentMissing(f"no metrics at {where}: {error.strerror}; name another --metrics") from error

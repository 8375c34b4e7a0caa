"""Metrics of a receiver for Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from runtime.daemon.state_metrics import LABELS, labels_of, state_metrics
from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery

if TYPE_CHECKING:
    from runtime.catalogue.uploader import Uploader

_PREFIX = "edgesem_receiver_"
_STATE_PREFIX = "edgesem_state_"
"""Of what each sender says of itself: nobody need ask a board over its thin link."""
_COUNTERS: dict[str, tuple[str, Callable[[Stream], float]]] = {
    "layers": ("layers received", lambda s: s.inbox.counters.layers),
    "bytes": ("bytes of packets received", lambda s: s.inbox.counters.size_bytes),
    "pictures": ("frames decoded, whether somebody needed their picture or not", lambda s: s.pictures),
    "decode_seconds": ("time spent on decoding", lambda s: s.decode_s),
    "malformed": ("messages that were no packet of this stream", lambda s: s.inbox.counters.malformed),
    "other_bundle": (
        "packets made with another bundle, which cannot be decoded here",
        lambda s: s.inbox.counters.other_bundle,
    ),
    "too_far": ("packets with a frame number too far ahead to be believed", lambda s: s.inbox.counters.too_far),
    "unsealed": ("packets that the stream's key did not open", lambda s: s.inbox.counters.unsealed),
    "repeated": ("layers that had come before", lambda s: s.inbox.counters.repeated),
    "undecodable": ("frames that could not be decoded", lambda s: s.inbox.counters.undecodable),
    "missing_reference": (
        "inter frames whose reference is not here; their sender was asked for a keyframe",
        lambda s: s.inbox.counters.missing_reference,
    ),
    "dropped_frames": ("frames replaced by newer ones before a decoder was free", lambda s: s.inbox.counters.dropped),
    "base_alone_frames": (
        "frames of which only the base layer came, too soon after a fuller one",
        lambda s: s.inbox.counters.base_alone,
    ),
    "promised_kept": ("promised frames that are on our disk", lambda s: s.inbox.counters.kept),
    "promised_not_kept": ("promised frames that the disk did not take", lambda s: s.inbox.counters.not_kept),
}


class _Collector:
    """Prometheus collector: reads the streams whenever it is asked."""

    def __init__(self, receiver: StreamReceiver, gallery: Gallery, uploader: Uploader | None = None) -> None:
        self._receiver, self._gallery, self._uploader = receiver, gallery, uploader

    def collect(self) -> Iterable[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        streams = self._receiver.streams.all()
        for name, (about, read) in _COUNTERS.items():
            counter = CounterMetricFamily(_PREFIX + name, about, labels=LABELS)
            for stream in streams:
                counter.add_metric(labels_of(stream.topics), read(stream))
            yield counter
        age = GaugeMetricFamily(_PREFIX + "picture_age_seconds", "since capture, latest picture", labels=LABELS)
        delay = GaugeMetricFamily(_PREFIX + "delay_seconds", "from capture to decoded, latest picture", labels=LABELS)
        steps = GaugeMetricFamily(_PREFIX + "decode_steps", "steps of the flow decoder, latest picture", labels=LABELS)
        senders = GaugeMetricFamily(_PREFIX + "two_senders", "1 while two senders share the name", labels=LABELS)
        references = GaugeMetricFamily(
            _PREFIX + "reference_bytes", "memory of latents that inter frames may refer to", labels=LABELS
        )
        silent = GaugeMetricFamily(_PREFIX + "silent_seconds", "since the last good message", labels=LABELS)
        waiting = GaugeMetricFamily(_PREFIX + "waiting_frames", "frames that wait for a decoder", labels=LABELS)
        for stream in streams:
            if math.isfinite(stream.heard_s):
                silent.add_metric(labels_of(stream.topics), time.monotonic() - stream.heard_s)
            waiting.add_metric(labels_of(stream.topics), stream.inbox.waiting)
            senders.add_metric(labels_of(stream.topics), stream.has_two_senders)
            references.add_metric(labels_of(stream.topics), stream.reference_bytes)
            latest = self._gallery.latest(stream.name)
            if latest is not None:
                age.add_metric(labels_of(stream.topics), latest.age_s)
                delay.add_metric(labels_of(stream.topics), latest.info.delay_s)
                steps.add_metric(labels_of(stream.topics), latest.info.steps)
        yield from (age, delay, steps, silent, waiting, senders, references)
        yield from state_metrics(_STATE_PREFIX, [(one.topics, one.state) for one in streams if one.state is not None])
        yield GaugeMetricFamily(_PREFIX + "streams", "streams heard", value=len(streams))
        yield GaugeMetricFamily(_PREFIX + "connected", "1 with a broker", value=self._receiver.connection.connected)
        yield GaugeMetricFamily(_PREFIX + "decoders", "decoder processes", value=self._receiver.decoders)
        yield CounterMetricFamily(
            _PREFIX + "strays", "messages of no stream, or of one too many", value=self._receiver.streams.strays
        )
        uploader = self._uploader
        if uploader is not None:
            yield CounterMetricFamily(
                _PREFIX + "catalogued_frames", "frames brought to the catalogue", value=uploader.uploaded
            )
            yield GaugeMetricFamily(
                _PREFIX + "not_catalogued_frames", "archived frames that the catalogue lacks", value=uploader.waiting
            )
            yield GaugeMetricFamily(
                _PREFIX + "catalogue_reached",
                "1 if the last try reached catalogue and objects",
                value=not uploader.trouble,
            )


def metrics_of(receiver: StreamReceiver, gallery: Gallery, uploader: Uploader | None = None) -> Callable[[], bytes]:
    """A function that gives the text for Prometheus, and may be called from any thread."""
    import prometheus_client as client

    registry = client.CollectorRegistry()
    registry.register(_Collector(receiver, gallery, uploader))
    client.ProcessCollector(registry=registry)

    return lambda: client.generate_latest(registry)

"""A sender's state as Prometheus metrics: at the sender itself, and at a receiver, which hears it of every sender."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from runtime.protocol.state import State
from runtime.protocol.topics import Topics

LABELS = ("site", "device", "stream")

_GAUGES: dict[str, tuple[str, Callable[[State], float | None]]] = {
    "connected": ("1 while there is a connection to the broker", lambda state: state.up),
    "paused": ("1 while paused, by a command or by the schedule", lambda state: state.paused),
    "watched": ("of a sender on demand: 1 while somebody watches", lambda s: s.live == "watched" if s.live else None),
    "capacity_bps": ("rate that the link bears, from confirmed bytes", lambda state: state.capacity_bps),
    "rtt_seconds": ("smallest round trip to the broker", lambda state: state.rtt_s),
    "window_bytes": ("most that may be under way", lambda state: state.window_bytes),
    "budget_bytes": ("what the newest frame was given", lambda state: state.budget_bytes),
    "delivered_age_seconds": ("since the capture of the newest frame that a receiver has", lambda state: state.age_s),
    "masked": ("1 while a privacy mask is on", lambda state: state.masked),
    "grey": ("1 while pictures are sent without colour", lambda state: state.grey),
    "shrunk_percent": ("sides of the newest picture, in percent of what was captured", lambda s: s.shrunk_percent),
    "data_spent_bytes": ("bytes on the wire in the period of the data budget", lambda s: s.data and s.data.spent_bytes),
    "data_left_bytes": ("bytes that are left in it", lambda s: s.data and s.data.left_bytes),
    "data_forecast_bytes": ("bytes that it will have cost at its end", lambda s: s.data and s.data.forecast_bytes),
    "spooled_frames": ("promised frames that no receiver keeps yet", lambda state: state.promised_waiting),
    "promised_rejected": ("promised frames on the disk that nobody takes", lambda state: state.promised_rejected),
}
_COUNTERS: dict[str, tuple[str, Callable[[State], float]]] = {
    "sent_bytes": ("bytes of all messages", lambda state: state.sent_bytes),
    "frames": ("frames encoded", lambda state: state.frames),
    "skipped_frames": ("frames left out, because the link had no room", lambda state: state.skipped),
    "layers_dropped": ("layers that a newer frame pre-empted", lambda state: state.dropped_layers),
    "promised_refused": ("promised frames that the disk had no room for", lambda state: state.promised_refused),
    "promised_lost": ("promised frames that a damaged disk has lost", lambda state: state.promised_lost),
    "refused": ("messages that the broker has refused", lambda state: state.refused),
    "left_out": ("pictures of the source that could not be read", lambda state: state.left_out),
    "events": ("events that promised frames from before and after them", lambda state: state.events),
    "reconnects": ("connections made anew", lambda state: state.reconnects),
}


def state_metrics(prefix: str, states: Iterable[tuple[Topics, State]]) -> Iterable[Any]:
    """The metrics of these senders, with names that begin with `prefix`; what a state does not know is left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    known = list(states)
    for table, kind in ((_GAUGES, GaugeMetricFamily), (_COUNTERS, CounterMetricFamily)):
        for name, (about, read) in table.items():
            family = kind(prefix + name, about, labels=LABELS)
            for topics, state in known:
                value = read(state)
                if value is not None:
                    family.add_metric(labels_of(topics), value)
            yield family


def labels_of(topics: Topics) -> tuple[str, str, str]:
    """Values of `LABELS` for one stream."""
    return topics.site, topics.device, topics.stream

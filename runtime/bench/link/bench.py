"""Runs of the link bench: starts emulator, receiver and sender, each a process of its own, and collects their logs."""

from __future__ import annotations

import contextlib
import json
import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesem.errors import EnvironmentMissing
from edgesem.trace import Trace
from runtime.bench.link.baselines import WITHOUT_LAYERS
from runtime.bench.link.clip import Clip, write_clip
from runtime.bench.link.figures import RunLog, figures, series
from runtime.bench.link.namespace import missing
from runtime.process.child import Child, Job

_READY_S = 30.0
_GRACE_S = 20.0
_LEAD_S = 6.0  # for all to connect, before the trace begins to hold
_TAIL_S = 0.3  # for what is on its way when the camera stops


@dataclass(frozen=True)
class Options:
    """Settings of a run: `trace` is a file or a rate, `delay_s` one way, `offset_s` where in the trace to start."""

    trace: str
    seconds: float
    fps: float = 10.0
    delay_s: float = 0.025
    offset_s: float = 0.0
    congestion: str = "cubic"
    queue_bytes: int = 256 * 1024
    loss: float = 0.0
    promise_every: int = 0
    late_s: float | None = None
    """When a second receiver comes, in seconds; None: none does. In `live_model` only."""


@dataclass(frozen=True)
class Outcome:
    """Figures and time series of one run."""

    figures: dict[str, Any]
    series: dict[str, Any]


@dataclass(frozen=True)
class EndpointLogs:
    """Logs of both endpoints, when the trace began, and figures of the emulated link (none of a relay)."""

    sender: dict[str, Any]
    receiver: dict[str, Any]
    start_s: float
    link: dict[str, Any]


def why_relay() -> str:
    """Why the link cannot be emulated with namespaces here; an empty string if it can."""
    from runtime.mqtt.mosquitto import find_tool

    return missing() or ("" if find_tool("mosquitto") else "mosquitto is not installed")


def run_sender(sender: str, *, clip: Clip, trace: Trace, options: Options, relay: bool = False) -> Outcome:
    """Run one sender of `baselines.SENDERS` over the link for `options.seconds`. Raises EnvironmentMissing."""
    with tempfile.TemporaryDirectory(prefix="edgesem-bench-") as name:
        folder = Path(name)
        write_clip(clip, folder / "clip.npz")
        logs = run_endpoints(
            "runtime.bench.link.endpoints",
            sender={
                "control": sender,
                "trace": options.trace,
                "offset_s": options.offset_s,
                "clip": str(folder / "clip.npz"),
                "promise_every": options.promise_every,
                "spool": str(folder / "spool.sqlite"),
                "grace_s": _GRACE_S,
            },
            receiver={"bundle_id": clip.packets[0][0].bundle_id},
            folder=folder,
            trace=trace,
            options=options,
            relay=relay,
        )
    log = RunLog(
        clip=clip,
        trace=trace,
        offset_s=options.offset_s,
        start_s=logs.start_s,
        fps=options.fps,
        seconds=options.seconds,
        sender=logs.sender,
        receiver=logs.receiver,
        whole_only=sender in WITHOUT_LAYERS,
    )
    return Outcome({**figures(log), **logs.link}, series(log))


def run_endpoints(
    module: str, *, sender: Job, receiver: Job, folder: Path, trace: Trace, options: Options, relay: bool = False
) -> EndpointLogs:
    """Run the two endpoints of `module` over the link; `sender` and `receiver` are added to their jobs."""
    events: queue.Queue[tuple[str, Job]] = queue.Queue()
    with contextlib.ExitStack() as stack:

        def child(name: str, module: str, job: Job) -> Child:
            return stack.enter_context(Child(name=name, module=module, job=job, folder=folder, events=events))

        common: Job = {"namespace": None, "broker": None, "congestion": options.congestion, "folder": str(folder)}
        start_s = time.monotonic()
        place: Callable[[str], Job]
        link = None
        if relay:
            place = stack.enter_context(_relayed(trace))
        else:
            job: Job = {
                "trace": options.trace,
                "offset_s": options.offset_s,
                "delay_s": options.delay_s,
                "queue_bytes": options.queue_bytes,
                "loss": options.loss,
                "lead_s": _LEAD_S,
            }
            link = child("link", "runtime.bench.link.emulator", job)
            ready = _wait(events, "link", "ready")
            start_s = ready["start_s"]
            place = lambda role: {"namespace": ready[role]}  # noqa: E731

        def job_of(role: str, more: Job) -> Job:
            return {**common, **place(role), **more, "role": role, "log": str(folder / f"{role}-log.json")}

        receiving = child("receiver", module, job_of("receiver", receiver))
        _wait(events, "receiver", "ready")
        timing = {"start_s": start_s, "fps": options.fps, "seconds": options.seconds}
        child("sender", module, job_of("sender", {**sender, **timing}))
        _wait(events, "sender", "ready")
        _wait(events, "sender", "filmed", patience_s=options.seconds + _READY_S)
        _wait(events, "sender", "exit", patience_s=_GRACE_S + _READY_S)
        time.sleep(_TAIL_S)
        receiving.finish(timeout_s=_READY_S)
        about: dict[str, Any] = {}
        if link is not None:
            link.finish(timeout_s=_READY_S)
            done = _wait(events, "link", "done")
            about = {"link_late_s": done["late_s"], "dropped_packets": done["dropped_packets"]}
        sent, received = (
            json.loads((folder / f"{role}-log.json").read_text("utf-8")) for role in ("sender", "receiver")
        )
        return EndpointLogs(sent, received, start_s, about)


def _wait(events: queue.Queue[tuple[str, Job]], name: str, event: str, *, patience_s: float = _READY_S) -> Job:
    """The next event of this name from this child; EnvironmentMissing if a child ends that should not."""
    until_s = time.monotonic() + patience_s
    while True:
        try:
            who, fields = events.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            raise EnvironmentMissing(f"the bench's {name} did not say {event!r} within {patience_s:.0f} s") from None
        if fields["event"] == "exit" and fields["code"] != 0:
            raise EnvironmentMissing(f"the bench's {who} ended: {fields['words']}")
        if (who, fields["event"]) == (name, event):
            return fields


@contextlib.contextmanager
def _relayed(trace: Trace) -> Iterator[Callable[[str], Job]]:
    """Without namespaces: a broker on loopback, and before it, for the sender, a relay of the trace's mean rate."""
    from runtime.bench.relay import Relay
    from runtime.mqtt.loopback_broker import Broker

    with Broker() as broker:
        address = broker.address
        with Relay(target=(address.host, address.port), rate_bps=trace.mean_bps) as relay:

            def place(role: str) -> Job:
                about = {"host": address.host, "user": address.user, "password": address.password}
                port = relay.port if role == "sender" else address.port
                return {"broker": {**about, "port": port, "version": address.version}}

            yield place

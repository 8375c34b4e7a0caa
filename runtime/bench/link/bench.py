"""Runs senders over an emulated link, one after the other: namespaces, link, broker, receiver, sender, figures."""

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
from runtime.bench.link.figures import Run, figures, series
from runtime.bench.link.namespace import missing
from runtime.process.child import Child, Job

_READY_S = 30.0
_GRACE_S = 20.0
_LEAD_S = 6.0  # for all to connect, before the trace begins to hold
_TAIL_S = 0.3  # for what is on its way when the filming ends


@dataclass(frozen=True)
class Options:
    """How to run: `trace` is a file or a rate, `delay_s` one way, `offset_s` where in the trace to start."""

    trace: str
    seconds: float
    fps: float = 10.0
    delay_s: float = 0.025
    offset_s: float = 0.0
    congestion: str = "cubic"
    queue_bytes: int = 256 * 1024
    loss: float = 0.0
    promise_every: int = 0


@dataclass(frozen=True)
class Outcome:
    """The figures and time series of one run."""

    figures: dict[str, Any]
    series: dict[str, Any]


def why_relay() -> str:
    """Why the link cannot be emulated with namespaces here, or nothing if it can."""
    from runtime.mqtt.mosquitto import find_tool

    return missing() or ("" if find_tool("mosquitto") else "mosquitto is not installed")


def run_sender(sender: str, *, clip: Clip, trace: Trace, options: Options, relay: bool = False) -> Outcome:
    """Let one sender run for the seconds asked for and return what became of it."""
    with tempfile.TemporaryDirectory(prefix="edgesem-bench-") as name:
        folder = Path(name)
        write_clip(clip, folder / "clip.npz")
        ended = run_ends(
            "runtime.bench.link.ends",
            near={
                "sender": sender,
                "trace": options.trace,
                "offset_s": options.offset_s,
                "clip": str(folder / "clip.npz"),
                "promise_every": options.promise_every,
                "spool": str(folder / "spool.sqlite"),
                "grace_s": _GRACE_S,
            },
            far={"bundle_id": clip.packets[0][0].bundle_id},
            folder=folder,
            trace=trace,
            options=options,
            relay=relay,
        )
        run = Run(
            clip=clip,
            trace=trace,
            offset_s=options.offset_s,
            start_s=ended.start_s,
            fps=options.fps,
            seconds=options.seconds,
            near=ended.near,
            far=ended.far,
            whole_only=sender in WITHOUT_LAYERS,
        )
        return Outcome({**figures(run), **ended.link}, series(run))


@dataclass(frozen=True)
class Ended:
    """What both ends wrote down, when the trace began, and how the emulated link fared (nothing of a relay)."""

    near: dict[str, Any]
    far: dict[str, Any]
    start_s: float
    link: dict[str, Any]


def run_ends(
    module: str, *, near: Job, far: Job, folder: Path, trace: Trace, options: Options, relay: bool = False
) -> Ended:
    """Let the two ends of `module` run over the link; their jobs say where they are, and what `near` and `far` add."""
    events: queue.Queue[tuple[str, Job]] = queue.Queue()
    with contextlib.ExitStack() as stack:
        common: Job = {"namespace": None, "broker": None, "congestion": options.congestion, "folder": str(folder)}
        start_s = time.monotonic()
        ports: Callable[[str], Job]
        link = None
        if relay:
            ports = stack.enter_context(_relayed(trace))
        else:
            job: Job = {
                "trace": options.trace,
                "offset_s": options.offset_s,
                "delay_s": options.delay_s,
                "queue_bytes": options.queue_bytes,
                "loss": options.loss,
                "lead_s": _LEAD_S,
            }
            link = _child(stack, "link", "runtime.bench.link.emulator", job, folder, events)
            ready = _wait(events, "link", "ready")
            start_s = ready["start_s"]
            ports = lambda end: {"namespace": ready[end]}  # noqa: E731
        far_job: Job = {**common, **ports("far"), **far, "end": "far", "notes": str(folder / "far.notes")}
        receiver = _child(stack, "far", module, far_job, folder, events)
        _wait(events, "far", "ready")
        near_job: Job = {
            **common,
            **ports("near"),
            **near,
            "end": "near",
            "start_s": start_s,
            "fps": options.fps,
            "seconds": options.seconds,
            "notes": str(folder / "near.notes"),
        }
        _child(stack, "near", module, near_job, folder, events)
        _wait(events, "near", "ready")
        _wait(events, "near", "filmed", patience_s=options.seconds + _READY_S)
        _wait(events, "near", "exit", patience_s=_GRACE_S + _READY_S)
        time.sleep(_TAIL_S)
        receiver.finish(timeout_s=_READY_S)
        about: dict[str, Any] = {}
        if link is not None:
            link.finish(timeout_s=_READY_S)
            done = _wait(events, "link", "done")
            about = {"link_late_s": done["latest_s"], "dropped_packets": done["dropped_packets"]}
        near_notes, far_notes = (json.loads((folder / f"{end}.notes").read_text("utf-8")) for end in ("near", "far"))
        return Ended(near_notes, far_notes, start_s, about)


def _child(
    stack: contextlib.ExitStack, name: str, module: str, job: Job, folder: Path, events: queue.Queue[tuple[str, Job]]
) -> Child:
    return stack.enter_context(Child(name=name, module=module, job=job, folder=folder, events=events))


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
    """Without namespaces: a broker on loopback, and for the sender a relay of the trace's mean rate before it."""
    from runtime.bench.relay import Relay
    from runtime.mqtt.loopback_broker import Broker

    with Broker() as broker:
        target = (broker.address.host, broker.address.port)
        with Relay(target=target, rate_bps=trace.mean_bps) as relay:

            def where(end: str) -> Job:
                address = broker.address
                about = {"host": address.host, "user": address.user, "password": address.password}
                port = relay.port if end == "near" else address.port
                return {"broker": {**about, "port": port, "version": address.version}}

            yield where

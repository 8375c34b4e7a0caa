"""Load run: simulated cameras with connections of their own, a real broker, and receivers that divide the streams."""

from __future__ import annotations

import contextlib
import queue
import secrets
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesem.errors import LinkError, UsageError
from runtime.bench.fleet.brokers import started
from runtime.bench.fleet.disturbances import Disturbances
from runtime.bench.fleet.figures import (
    SPARE,
    Delays,
    dark_of,
    dark_streams,
    over_time,
    parts_of,
    repeated,
    what_binds,
)
from runtime.bench.fleet.load import Load
from runtime.bench.fleet.nodes import Brokers
from runtime.bench.fleet.process_use import ProcessUse, busy_s, use_of
from runtime.bench.fleet.receivers import Receivers
from runtime.bench.fleet.recorded import record
from runtime.bench.fleet.run_catalogue import RunCatalogue
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.process.child import Child, Job
from runtime.receiver.processors import allowed_processors

_CONNECT_S, _CHILD_S = 120.0, 30.0
_DRAIN_S, _PROMISED_S = 20.0, 60.0
"""How long pictures that come late are waited for, and promised frames that no receiver keeps yet."""
_QUIET_S = 5.0
"""Without a picture for so long, nothing more comes: ordinary frames may be lost."""
_RECORDED, _INTER_FRAMES = 4, 6
"""Sequences that are recorded, and the inter frames of each: at a frame in 10 s, enough until the next keyframe."""
_WINDOWS = 12
"""Delays over time are told for so many parts of the run at most."""


def run_load(
    load: Load,
    addresses: Sequence[Address],
    tell: Callable[[str], None] = lambda _: None,
    catalogue_password_file: Path | None = None,
) -> dict[str, Any]:
    """Run it; the figures, for JSON. `addresses` are those of a broker that runs, or empty: then a mosquitto is
    started. `tell` is told of progress in words. EnvironmentMissing without mosquitto or /proc, LinkError where a part
    does not start, and what `RunCatalogue` raises."""
    busy_s()  # tells at once if there is no /proc
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesem-fleet-", ignore_cleanup_errors=True))
        )
        brokers: Brokers | None = None
        catalogue: RunCatalogue | None = None
        if load.catalogue:
            catalogue = RunCatalogue(load.catalogue, catalogue_password_file, folder / "objects")
            stack.enter_context(catalogue)
        if addresses and (load.kill_nodes or load.cut_nodes):
            raise UsageError("only nodes that are started here can be killed or cut off: leave --broker out")
        if not addresses:
            tell(f"{load.broker} starts")
            brokers, addresses = started(load.broker, folder / "broker", load.cameras + 64, load.namespaces)
            stack.callback(brokers.end)
        with Connection(addresses, name="bench") as link:
            version = link.version
        return _Run(load, addresses, version, brokers, catalogue, folder, tell, stack).figures()


class _Run:
    """One run; its parts end with `stack`."""

    def __init__(
        self,
        load: Load,
        addresses: Sequence[Address],
        version: str,
        brokers: Brokers | None,
        catalogue: RunCatalogue | None,
        folder: Path,
        tell: Callable[[str], None],
        stack: contextlib.ExitStack,
    ) -> None:
        self._load, self._addresses, self._brokers = load, addresses, brokers
        self._catalogue, self._folder, self._tell = catalogue, folder, tell
        self._site = f"bench-{secrets.token_hex(4)}"
        self._events: queue.Queue[tuple[str, Job]] = queue.Queue()
        self._totals: Job = {}
        self._filmed: Job = {}
        tell(f"{load.cameras} cameras connect")
        sequences = record(_RECORDED, load.size, load.budget_bytes, _INTER_FRAMES if load.inter_frames else 0)
        job = {
            "addresses": [_plain(one) for one in addresses],
            "version": version,
            "site": self._site,
            "sequences": [[b64encode(one).decode() for one in sequence] for sequence in sequences],
            "cameras": load.cameras,
            "interval_s": load.interval_s,
            "seconds": load.warm_up_s + load.seconds,
            "promise_every": load.promise_every,
        }
        module = "runtime.bench.fleet.swarm"
        child = Child(name="cameras", module=module, job=job, folder=folder, events=self._events)
        self._cameras = stack.enter_context(child)
        self._camera_pid = int(self._wait_for("connected", _CONNECT_S)["pid"])
        tell("receivers start")
        more = catalogue.arguments if catalogue else []
        self._receivers = Receivers(load, self._site, addresses, folder, more)
        stack.callback(self._receivers.end)
        self._receivers.wait_ready()
        self._disturbances = Disturbances(load, brokers, self._receivers, self._wait, tell)

    def figures(self) -> dict[str, Any]:
        """Film, wait for what is under way, and count."""
        load = self._load
        warm_up = f"after {load.warm_up_s:g} s of warm-up, " if load.warm_up_s else ""
        self._tell(f"{load.cameras} cameras film, {warm_up}for {load.seconds:g} s")
        (self._folder / "start").touch()
        self._wait(time.monotonic() + load.warm_up_s)
        before, began_s, others_s = self._uses(), time.monotonic(), busy_s()
        if self._catalogue and load.stop_catalogue_s:
            self._catalogue.stop_later((load.seconds - load.stop_catalogue_s) / 2, load.stop_catalogue_s)
        self._disturbances.run(began_s, lambda: bool(self._filmed))
        sent = int((self._filmed or self._wait_for("filmed", load.seconds + _CHILD_S))["sent"])
        seconds = time.monotonic() - began_s
        uses = {name: use.since(before.get(name, ProcessUse())) for name, use in self._uses().items()}
        others_s = busy_s() - others_s - sum(use.cpu_s for use in uses.values())
        self._drain(sent)
        if self._catalogue:
            self._tell("the catalogue catches up")
            self._catalogue.wait_for(self._totals["promised"], self._site, self._wait)
        self._disturbances.count_bytes()
        self._cameras.finish(timeout_s=_CHILD_S)
        self._receivers.end()
        return self._counted(uses, began_s, seconds, max(0.0, others_s / seconds))

    def _counted(
        self, uses: dict[str, ProcessUse], began_s: float, seconds: float, others_cores: float
    ) -> dict[str, Any]:
        load, sent = self._load, int(self._totals["sent"])
        shown = self._receivers.shown
        pictures = len({(one.stream, one.epoch, one.frame) for one in shown})
        # What the processor time was spent on.
        in_time = sum(began_s < one.received_s <= began_s + seconds for one in shown)
        counted = [one for one in shown if one.captured_s >= began_s]
        processors = allowed_processors()
        ours_cores = sum(use.cpu_s for name, use in uses.items() if name != "cameras") / seconds
        done = self._receivers.done
        names = [f"{self._site}/camera-{number}/main" for number in range(load.cameras)]
        own = sum(stream["size_bytes"] for one in done for stream in one["streams"])
        return {
            **asdict(load),
            "packet_bytes": round(self._totals["frame_bytes"] / sent),
            "sent": sent,
            "inter_share": round(self._totals["inter_frames"] / sent, 3),
            "missing_reference": sum(stream["missing_reference"] for one in done for stream in one["streams"]),
            "pictures": pictures,
            "pictures_per_s": round(in_time / seconds, 2),
            "not_shown": sent - pictures,
            "delay": asdict(Delays.of(counted)),
            "warm_up_delay": asdict(Delays.of(one for one in shown if one.captured_s < began_s))
            if load.warm_up_s
            else None,
            "delay_over_time": over_time(
                shown,
                began_s - load.warm_up_s,
                max(load.interval_s, (load.warm_up_s + load.seconds) / _WINDOWS),
            ),
            "promised": self._totals["promised"],
            "promised_lost": self._totals["waiting"],
            "promised_shown_twice": repeated(shown, promised=True),
            "in_catalogue": self._catalogue and self._catalogue.figures(self._totals["promised"], self._site),
            "parts": parts_of(uses, seconds, in_time),
            "nodes": [asdict(one) for one in self._disturbances.carried],
            "heard_of_others": round(sum(one["others_bytes"] for one in done) / own, 4) if own else None,
            "processors": processors,
            "others_cores": round(others_cores, 2),
            "binds": what_binds(
                uses,
                seconds=seconds,
                processors=processors,
                others_cores=others_cores,
                single=[name for name in uses if name in ("broker", "cameras")],
            ),
            # By what a picture costs: a run that was late has not paid for all of them.
            "cameras_on_two_cores": round(2 * SPARE / ours_cores * in_time / seconds * load.interval_s)
            if ours_cores
            else None,
            "dark": dark_of(self._disturbances.kills, shown, load.interval_s, load.receivers, began_s + seconds),
            "dark_streams": [asdict(one) for one in dark_streams(shown, names, began_s, seconds, load.interval_s)],
        }

    def _uses(self) -> dict[str, ProcessUse]:
        uses = {} if self._brokers is None else {"broker": use_of(self._brokers.pids()) + self._disturbances.dead}
        return uses | self._receivers.uses() | {"cameras": use_of([self._camera_pid])}

    def _drain(self, sent: int) -> None:
        """Wait until all pictures are drawn, and all promised frames kept, or nothing more comes."""
        self._tell("the last pictures come")
        began_s = changed_s = time.monotonic()
        before = -1
        while True:
            shown = len({(one.stream, one.epoch, one.frame) for one in self._receivers.shown})
            now_s = time.monotonic()
            if shown != before:
                before, changed_s = shown, now_s
            waits = self._totals.get("sent", 0) < sent or self._totals["waiting"] > 0
            if not waits and (shown >= self._totals["sent"] or now_s - changed_s > _QUIET_S):
                return
            if now_s - began_s > (_PROMISED_S if waits else _DRAIN_S):
                return
            self._wait(now_s + 0.5)

    def _wait_for(self, kind: str, patience_s: float) -> Job:
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            event = self._take(left_s)
            if event.get("event") == kind:
                return event
        raise LinkError(
            f"the simulated cameras were not {kind} within {patience_s:.0f} s: take fewer, or look for load"
        )

    def _wait(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            self._take(left_s)

    def _take(self, patience_s: float) -> Job:
        """The next event of the cameras; empty if none comes in time. LinkError if they have ended."""
        try:
            _, event = self._events.get(timeout=patience_s)
        except queue.Empty:
            return {}
        if event["event"] == "exit":
            raise LinkError(f"the simulated cameras have ended: {event['words']}")
        if event["event"] == "totals":
            self._totals = event
        elif event["event"] == "filmed":
            self._filmed = event
        return event


def _plain(address: Address) -> dict[str, Any]:
    """An address as a job file holds it."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(address).items()}

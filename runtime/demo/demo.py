"""The whole of edgesem on one machine: pictures cross a thin link and come back as pictures.

    pictures -> sender process -> relay process (the thin link) -> broker -> receiver process -> pictures

Everything listens on 127.0.0.1 only, the broker behind a random password, and all of it is gone when the demo ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgesem.errors import InputError, LinkError
from runtime.capture.frame import PHOTOS, capture
from runtime.demo.report import CONTACT_SHEET, REPORT, Facts, draw, rate_text, write_files
from runtime.mqtt.loopback_broker import Broker
from runtime.process.child import Child, Job
from runtime.protocol.topics import Topics
from runtime.receiver.sinks import FolderSink

Events = queue.Queue[tuple[str, Job]]
# All of them far longer than needed: a small board may be ten times slower than what this was written on.
_READY_S = 60.0
_FLUSH_S = 60.0
_SEND_S, _SEND_INTERVALS = 120.0, 4.0


@dataclass(frozen=True)
class Options:
    """What the user can choose."""

    rate_bps: float
    out: Path
    source: Path | None = None
    """A folder of pictures or a video; the photographs that ship with edgesem if None."""
    frames: int = 14
    interval_s: float = 1.0
    bundle: Path | None = None
    broker: str | None = None
    """`mosquitto` or `amqtt`; what is installed if None."""


def run_demo(options: Options, show: Callable[[Facts], None]) -> dict[str, Any]:
    """Send the pictures, call `show` whenever something has happened, fill `options.out`, and return the report.

    The report's `ok` says whether every picture came and every layer was acknowledged.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals_as_exit())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesem-demo-")))
        received = _make_folder(options.out.resolve() / "received")
        facts = _stage(options, folder / "frames")
        show(facts)
        started_s = time.monotonic()
        broker_kind = _transfer(options, facts, folder, received, show)
        seconds = time.monotonic() - started_s
        facts.phase = "drawing the contact sheet"
        show(facts)
        link = rate_text(options.rate_bps)
        sheet = draw(facts, f"edgesem over {link}", _subtitle(options, facts))
        report = _report(options, facts, broker_kind, seconds)
        write_files(options.out, sheet, report)
    return report


def _stage(options: Options, folder: Path) -> Facts:
    """Put the pictures to send, in the size in which they are sent, into `folder`."""
    sink = FolderSink(folder)
    names, paths = [], []
    for number, frame in enumerate(capture(options.source or PHOTOS, options.frames)):
        names.append(frame.name)
        paths.append(sink.write(number, frame.image))
    return Facts(names, paths)


def _make_folder(folder: Path) -> Path:
    """Make the folder for received pictures, and take away what an earlier demo has left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if re.fullmatch(r"\d{4}\.png", path.name):
                path.unlink()
        for name in (CONTACT_SHEET, REPORT):
            (folder.parent / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}): name another folder by --out") from error
    return folder


def _transfer(options: Options, facts: Facts, folder: Path, received: Path, show: Callable[[Facts], None]) -> str:
    """Run broker, relay, receiver and sender until all pictures are through; returns the kind of broker."""
    events: Events = queue.Queue()
    count = len(facts.rows)
    common: Job = {
        "topics": asdict(Topics()),
        "bundle": None if options.bundle is None else str(options.bundle.resolve()),
    }

    def listen(name: str, wanted: str, timeout_s: float) -> dict[str, Any]:
        _listen(events, facts, name, wanted, timeout_s, show)
        return facts.said[name]

    with contextlib.ExitStack() as stack:
        facts.phase = "starting the broker"
        show(facts)
        broker = stack.enter_context(Broker(kind=options.broker))

        def start(name: str, job: Job, module: str) -> Child:
            child = Child(name=name, module=module, job=job, folder=folder, events=events)
            return stack.enter_context(child)

        relay_job = {"host": broker.address.host, "port": broker.address.port, "rate_bps": options.rate_bps}
        relay = start("relay", relay_job, "runtime.bench.relay")
        facts.phase = "starting the receiver"
        show(facts)
        receiver_job = {**common, "broker": asdict(broker.address), "folder": str(received), "backlog": count}
        receiver = start("receiver", receiver_job, "runtime.demo.receiver")
        near = replace(broker.address, port=listen("relay", "ready", _READY_S)["port"])
        listen("receiver", "ready", _READY_S)
        facts.phase = "starting the sender"
        show(facts)
        sender_job = {
            **common,
            "broker": asdict(near),
            "folder": str(folder / "frames"),
            "count": count,
            "interval_s": options.interval_s,
        }
        start("sender", sender_job, "runtime.demo.patient")
        listen("sender", "ready", _READY_S)
        facts.phase = "sending"
        listen("sender", "done", _SEND_S + _SEND_INTERVALS * count * options.interval_s)
        facts.phase = "decoding the last pictures"
        for child in (receiver, relay):
            child.ask_to_end()
            listen(child.name, "done", _FLUSH_S)
    return broker.kind


def _listen(
    events: Events, facts: Facts, name: str, wanted: str, timeout_s: float, show: Callable[[Facts], None]
) -> None:
    """Take events until process `name` says what is `wanted`; LinkError if any process fails, or time runs out."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            who, event = events.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise LinkError(
                f"the {name} was not {wanted} within {timeout_s:.0f} s; try a faster --link or a longer --interval"
            ) from None
        if event["event"] == "exit":
            if event["code"] or not facts.ended(who):
                raise LinkError(f"the {who} ended early (exit code {event['code']}): {event['words']}")
            continue
        facts.take(who, event)
        show(facts)
        if who == name and event["event"] == wanted:
            return


def _subtitle(options: Options, facts: Facts) -> str:
    source = "photographs that ship with edgesem" if options.source is None else str(options.source.name)
    return (
        f"{len(facts.rows)} pictures, one each {options.interval_s:g} s, {source}; bytes are those of the MQTT messages"
    )


def _report(options: Options, facts: Facts, broker_kind: str, seconds: float) -> dict[str, Any]:
    sender, relay = facts.said["sender"], facts.said["relay"]
    return {
        **facts.counts(),
        "seconds": round(seconds, 2),
        "out": str(options.out),
        "contact_sheet": str(options.out / CONTACT_SHEET),
        "report": str(options.out / REPORT),
        "source": None if options.source is None else str(options.source),
        "interval_s": options.interval_s,
        "link": {
            "set_bps": options.rate_bps,
            "estimated_bps": sender["capacity_bps"],
            "min_rtt_s": sender["min_rtt_s"],
            "up_bytes": relay["forwarded_bytes"],
        },
        "broker": {"kind": broker_kind, "mqtt": sender["mqtt"]},
        "receiver": facts.said["receiver"],
        "bundle": {"id": sender["bundle_id"], "digest": sender["bundle_digest"]},
        "rows": facts.rows,
    }


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the program the way that an exception does, so that everything is cleaned up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

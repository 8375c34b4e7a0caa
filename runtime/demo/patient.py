"""A sender that leaves no frame out: for what must be seen whole, such as a demo; not for a camera.

`python -m runtime.demo.patient JOB.json` sends the pictures of one folder, in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from runtime.capture.frame import MIN_SIDE, Frame, capture
from runtime.congestion.control import Control
from runtime.mqtt.connection import Address, Connection, Topics
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.sender.publisher import LOOK_UP_S
from runtime.sender.sender import Sender

_HEARD_S = 20.0


def send_all(sender: Sender, frames: Iterable[Frame], *, interval_s: float) -> int:
    """Send each of `frames`, one each interval at most, and wait until receivers have acknowledged them.

    `sender` must be connected and not entered. A frame that is too big for its time is sent as small as it can be, and
    its base layer gets all the time that it needs. Returns how many layers nobody has acknowledged.
    """
    publisher, changed, stop = sender.publisher, sender.publisher.changed, sender.stop
    thread = threading.Thread(target=publisher.run, name="sender.publish", daemon=True)
    thread.start()
    for frame in frames:
        slot_s = time.monotonic() + interval_s
        latent = sender.packer.analyze(frame)
        if latent is None:
            continue
        with changed:
            while (budget_bytes := publisher.budget_bytes(0.0)) is None and not stop.is_set():
                if publisher.up and publisher.empty:
                    break  # there is room for nothing, and nothing is in the way: as small as it can be
                changed.wait(LOOK_UP_S)
        packet = sender.packer.pack(latent, budget_bytes or 1, frame, smallest=True)
        with changed:
            while (publisher.base_waits or not publisher.up) and not stop.is_set():
                changed.wait(LOOK_UP_S)
        if packet is not None:
            publisher.put(packet)
        if stop.wait(max(0.0, slot_s - time.monotonic())):
            break
    deadline_s = time.monotonic() + _HEARD_S
    with changed:
        while (publisher.unheard or not publisher.empty) and not stop.is_set() and time.monotonic() < deadline_s:
            before = len(publisher.unheard)
            changed.wait(LOOK_UP_S)
            if len(publisher.unheard) != before:
                deadline_s = time.monotonic() + _HEARD_S
        unheard = len(publisher.unheard)
    stop.set()
    publisher.wake()
    thread.join()
    return unheard


def _tell(*, event: str, **fields: object) -> None:
    if event in ("packed", "sent", "acked"):
        emit(event=event, **fields)


def send(job: Job) -> None:
    """Send the pictures of the job's folder over its broker, and tell of each frame."""
    import edgesem

    stop = stdin_closed()
    codec = edgesem.load(job["bundle"])
    topics = Topics(**job["topics"])
    sender = Sender(
        codec=codec,
        topics=topics,
        control=Control(interval_s=job["interval_s"]),
        publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
        tell=_tell,
        stop=stop,
    )
    connection = Connection(
        Address(**job["broker"]),
        name="sender",
        subscribe=topics.ack,
        on_message=sender.on_message,
        on_up=lambda: sender.connected(connection.rtt_s),
        on_down=lambda _: sender.disconnected(),
    )
    # Loads the networks: the first real frame shall not wait for that.
    codec.pack(codec.analyze(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)), quality=0)
    with connection:
        emit(
            event="ready",
            mqtt=connection.version,
            min_rtt_s=round(connection.rtt_s or 0.0, 4),
            bundle_id=codec.bundle.id,
            bundle_digest=codec.bundle.digest,
        )
        unheard = send_all(sender, capture(Path(job["folder"]), job["count"]), interval_s=job["interval_s"])
    emit(event="done", unacknowledged=unheard, capacity_bps=sender.state().capacity_bps)


if __name__ == "__main__":
    raise SystemExit(run_child(send))

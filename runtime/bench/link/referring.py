"""The two ends of a bench run with the real codec: a camera that may refer to earlier frames, a receiver that decodes.

`python -m runtime.bench.link.referring JOB.json`. Acknowledgements of all kinds are lost where the receiver would send
them; requests for keyframes are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.bundle.bundle import Bundle
from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.errors import EdgesemError, LinkError
from edgesem.files import write_whole
from runtime.bench.link.ends import TOPICS, address_of, mosquitto, settle
from runtime.bench.link.oracle_decoder import Recorder
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.mqtt.connection import Connection
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.protocol.clock import clock_ms
from runtime.receiver.streams import Streams
from runtime.sender.sender import Sender
from runtime.settings import MAX_RECEIVERS

_LOOK_UP_S = 0.1


def near(job: Job) -> None:
    """Film, encode and send, and write down what the sender said, when each picture was taken, and all packets."""
    _settle(job)
    stop = stdin_closed()
    codec = Recorder(Bundle.open(job["bundle"]))
    images = np.load(job["images"], mmap_mode="r")
    _load(codec, images[0])
    codec.made.clear()
    told: list[dict[str, Any]] = []
    captured_s: list[float] = []
    sender = Sender(
        codec=codec,
        topics=TOPICS,
        control=Control(interval_s=1 / job["fps"], unacked_bytes=lambda: connection.unacked_bytes()),
        publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
        tell=lambda **fields: told.append({"at_s": time.monotonic(), **fields}),
        ack_timeout_s=15.0,
        stuck=lambda reason: connection.reconnect(reason),
        most_receivers=MAX_RECEIVERS if job["refer"] else 0,
        sharp=job["prefer"] == "sharp",
    )
    connection = Connection(
        address_of(job),
        name="bench-sender",
        subscribe=(TOPICS.ack, TOPICS.cmd),
        on_message=sender.on_message,
        on_up=lambda: sender.connected(connection.rtt_s),
        on_down=lambda _: sender.disconnected(),
    )
    with sender, connection:
        emit(event="ready")
        begin_s = max(time.monotonic(), job["start_s"])
        for tick in range(round(job["seconds"] * job["fps"])):
            if stop.wait(max(0.0, begin_s + tick / job["fps"] - time.monotonic())):
                break
            captured_s.append(time.monotonic())
            sender.offer(Frame(images[there_and_back(tick, len(images))], str(tick), clock_ms()))
        stop.wait(max(0.0, begin_s + job["seconds"] - time.monotonic()))
        emit(event="filmed")
    packets = [packet.to_bytes().hex() for packet in codec.made.values()]
    notes = {"begin_s": begin_s, "captured_s": captured_s, "told": told, "packets": packets}
    write_whole(Path(job["notes"]), json.dumps(notes).encode())


def far(job: Job) -> None:
    """Serve as broker, receive, decode and acknowledge what is not to be lost, and write down what was decoded when."""
    _settle(job)
    stop = stdin_closed()
    codec = Codec(Bundle.open(job["bundle"]))
    _load(codec, np.load(job["images"], mmap_mode="r")[0])
    dice, said, shown = random.Random(job["seed"]), {"acks": 0, "lost_acks": 0, "key_requests": 0}, []

    def publish(topic: str, payload: bytes, qos: int) -> None:
        if topic == TOPICS.ack:
            said["acks"] += 1
            if dice.random() < job["lose_acks"]:
                said["lost_acks"] += 1
                return
        else:
            said["key_requests"] += 1
        with contextlib.suppress(LinkError):  # the broker is gone: the run is over
            connection.publish(topic, payload, qos=qos)

    streams = Streams(bundle_id=codec.bundle.id, publish=publish, references=True)
    with contextlib.ExitStack() as stack:
        if job["broker"] is None:
            stack.enter_context(mosquitto(Path(job["folder"])))
        subscribe = (TOPICS.every_layer,)
        connection = Connection(
            address_of(job), name="bench-receiver", subscribe=subscribe, on_message=streams.on_message
        )
        stack.enter_context(connection)
        emit(event="ready")
        while not stop.is_set():
            work = streams.next_frame(_LOOK_UP_S)
            if work is None:
                continue
            stream, packet = work
            started_s, good = time.monotonic(), False
            try:
                latent = codec.unpack(packet, streams.reference(stream, packet))
                shown.append((time.monotonic(), packet.epoch, packet.frame, len(packet.chunks), digest(latent)))
                streams.hold(stream, packet, latent)
                good = True
            except EdgesemError:  # a reference that is not here: counted there
                pass
            finally:
                streams.done(stream, decode_s=time.monotonic() - started_s, good=good)
    refused = sum(stream.inbox.counters.missing_reference for stream in streams.all())
    notes = {**said, "shown": shown, "refused": refused}
    write_whole(Path(job["notes"]), json.dumps(notes).encode())


def there_and_back(tick: int, count: int) -> int:
    """Which of `count` pictures the camera sees: forwards, then backwards, and so on."""
    place = tick % max(1, 2 * count - 2)
    return place if place < count else 2 * count - 2 - place


def digest(latent: Latent) -> str:
    """What two latents have in common if, and only if, they are the same to the bit."""
    return hashlib.sha256(np.ascontiguousarray(latent.values, "<f4").tobytes()).hexdigest()


def _load(codec: Codec, image: np.ndarray[Any, Any]) -> None:
    """Have all graphs loaded: the first frames shall not wait for that."""
    from edgesem.packet.side_information import Reference, SideInformation

    latent = codec.analyze(image)
    _, known = codec.pack_decoded(latent, quality=0.0)
    if codec.has_reference:
        codec.pack(latent, quality=0.0, side_info=SideInformation(reference=Reference(0, 4)), reference=known)


def _settle(job: Job) -> None:
    settle(job)
    if job["namespace"]:
        with contextlib.suppress(OSError):  # what delays us is to be the link
            os.nice(-10)


def end(job: Job) -> None:
    """The end that the job names."""
    {"near": near, "far": far}[job["end"]](job)


if __name__ == "__main__":
    raise SystemExit(run_child(end))

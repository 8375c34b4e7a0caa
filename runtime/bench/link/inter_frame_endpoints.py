"""Endpoint processes of a bench run with the real codec: a sender that may code inter frames; a receiver that decodes.

`python -m runtime.bench.link.inter_frame_endpoints JOB.json`. A share of the acknowledgements is dropped where the
receiver would send them; requests for keyframes are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.bundle.bundle import Bundle
from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.codec.options import PackOptions
from edgesem.errors import EdgesemError, LinkError
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation
from runtime.bench.link.clip import ping_pong
from runtime.bench.link.endpoints import (
    ACK_TIMEOUT_S,
    TOPICS,
    address_of,
    enter_job,
    mosquitto,
    ticks,
    write_log,
)
from runtime.bench.link.oracle_decoder import RecordingCodec
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.mqtt.connection import Connection
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.protocol.clock import clock_ms
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.streams import Streams
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.settings import MAX_RECEIVERS

_POLL_S = 0.1


def run_sender(job: Job) -> None:
    """Film, encode and send; log what the sender reported, when each picture was taken, and all packets."""
    _enter_job(job)
    stop = stdin_closed()
    codec = RecordingCodec(Bundle.open(job["bundle"]))
    images = np.load(job["images"], mmap_mode="r")
    _load_graphs(codec, images[0])
    codec.made.clear()
    events: list[dict[str, Any]] = []
    captured_s: list[float] = []
    sender = SenderPipeline(
        codec=codec,
        topics=TOPICS,
        control=Control(
            interval_s=1 / job["fps"],
            fill_share=1.0 if job["prefer"] == "sharp" else Control.fill_share,
            refers=True,
            unacked_bytes=lambda: connection.unacked_bytes(),
        ),
        publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
        on_event=lambda event: events.append({"at_s": time.monotonic(), **event.as_dict()}),
        on_stuck=lambda reason: connection.reconnect(reason),
        options=PipelineOptions(
            ack_timeout_s=ACK_TIMEOUT_S,
            most_receivers=MAX_RECEIVERS if job["inter_frames"] else 0,
            sharp=job["prefer"] == "sharp",
        ),
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
        for tick in ticks(job, begin_s, stop):
            captured_s.append(time.monotonic())
            sender.offer(Frame(images[ping_pong(tick, len(images))], str(tick), clock_ms()))
        emit(event="filmed")
    packets = [packet.to_bytes().hex() for packet in codec.made.values()]
    write_log(job, {"begin_s": begin_s, "captured_s": captured_s, "events": events, "packets": packets})


def run_receiver(job: Job) -> None:
    """Serve as broker, receive, decode and acknowledge; log what was decoded when, and what was dropped."""
    _enter_job(job)
    stop = stdin_closed()
    codec = Codec(Bundle.open(job["bundle"]))
    _load_graphs(codec, np.load(job["images"], mmap_mode="r")[0])
    gain = codec.bundle.gain
    dice, counts = random.Random(job["seed"]), {"acks": 0, "lost_acks": 0, "key_requests": 0}
    decoded: list[tuple[float, int, int, int, str]] = []

    def publish(topic: str, payload: bytes, qos: int) -> None:
        if topic == TOPICS.ack:
            counts["acks"] += 1
            if dice.random() < job["lose_acks"]:
                counts["lost_acks"] += 1
                return
        else:
            counts["key_requests"] += 1
        with contextlib.suppress(LinkError):  # the broker is gone: the run is over
            connection.publish(topic, payload, qos=qos)

    streams = Streams(bundle_ids=[codec.bundle.id], publish=publish, references=True)
    with contextlib.ExitStack() as stack:
        if job["broker"] is None:
            stack.enter_context(mosquitto(Path(job["folder"])))
        connection = Connection(
            address_of(job), name="bench-receiver", subscribe=(TOPICS.every_layer,), on_message=streams.on_message
        )
        stack.enter_context(connection)
        emit(event="ready")
        while not stop.is_set():
            work = streams.next_frame(_POLL_S)
            if work is None:
                continue
            stream, packet = work
            assert isinstance(packet, Packet)  # no picture is skipped here
            started_s, good = time.monotonic(), False
            try:
                held = streams.references.find(stream, packet)
                latent = codec.unpack(packet, None if held is None else held.latent(gain))
                decoded.append((time.monotonic(), packet.epoch, packet.frame, len(packet.chunks), digest(latent)))
                streams.references.hold(stream, packet, HeldLatent.of(latent, gain))
                good = True
            except EdgesemError:  # a reference that is not here: counted there
                pass
            finally:
                streams.done(stream, decode_s=time.monotonic() - started_s, good=good)
    refused = sum(stream.inbox.counters.missing_reference for stream in streams.all())
    write_log(job, {**counts, "decoded": decoded, "refused": refused})


def digest(latent: Latent) -> str:
    """SHA-256 of a latent's values: equal if, and only if, two latents are the same to the bit."""
    return hashlib.sha256(np.ascontiguousarray(latent.values, "<f4").tobytes()).hexdigest()


def _load_graphs(codec: Codec, image: np.ndarray[Any, Any]) -> None:
    """Load all graphs now, so that the first frames do not wait for them."""
    latent = codec.analyze(image)
    _, known = codec.pack_decoded(latent, quality=0.0)
    if codec.has_reference:
        options = PackOptions(side_info=SideInformation(reference=Reference(0, 4)), reference=known)
        codec.pack(latent, quality=0.0, options=options)


def _enter_job(job: Job) -> None:
    enter_job(job)
    if job["namespace"]:
        with contextlib.suppress(OSError):  # the link, and not this machine, is to cause the delays
            os.nice(-10)


def run_role(job: Job) -> None:
    """Run the endpoint that the job names."""
    {"sender": run_sender, "receiver": run_receiver}[job["role"]](job)


if __name__ == "__main__":
    raise SystemExit(run_child(run_role))

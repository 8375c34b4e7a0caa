"""Bench of inter frames: the real codec with and without them over an emulated link, with acknowledgements lost.

Pictures are encoded, decoded and acknowledged as the run goes. Afterwards every decoded latent is compared with what a
decoder gives that has had every packet.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS
from edgesem.packet.packet import Packet
from edgesem.trace import Trace
from runtime.bench.link.bench import Options, Outcome, run_endpoints
from runtime.bench.link.clip import Image, ping_pong
from runtime.bench.link.figures import ages, percentile
from runtime.bench.link.inter_frame_endpoints import digest
from runtime.bench.link.oracle_decoder import OracleDecoder

SENDERS = {"edgesem-intra": False, "edgesem-reference": True}
"""Names of the senders, and whether they code inter frames."""
MAX_IMAGES = 120
_JUDGED = 60


@dataclass(frozen=True)
class InterFrameLog:
    """What both endpoints logged in a run of `seconds`."""

    sender: dict[str, Any]
    receiver: dict[str, Any]
    seconds: float


def run_inter_frames(
    sender: str,
    *,
    images: list[Image],
    codec: Codec,
    trace: Trace,
    options: Options,
    lose_acks: float = 0.0,
    prefer: str = "smooth",
    relay: bool = False,
) -> Outcome:
    """Run a sender of SENDERS and return its figures; a share `lose_acks` of acknowledgements is never sent.

    prefer: "smooth" or "sharp", as of `runtime.congestion.frame_rate`.
    """
    with tempfile.TemporaryDirectory(prefix="edgesem-bench-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", np.stack(images))
        about = {"images": str(folder / "images.npy"), "bundle": str(codec.bundle.folder)}
        logs = run_endpoints(
            "runtime.bench.link.inter_frame_endpoints",
            sender={**about, "inter_frames": SENDERS[sender], "prefer": prefer},
            receiver={**about, "lose_acks": lose_acks, "seed": 1},
            folder=folder,
            trace=trace,
            options=options,
            relay=relay,
        )
    log = InterFrameLog(logs.sender, logs.receiver, options.seconds)
    return Outcome({**figures(log, images, codec), **logs.link}, {})


def figures(log: InterFrameLog, images: list[Image], codec: Codec) -> dict[str, Any]:
    """The figures of one run. Delays are from capture to the decoded latent; the work of both endpoints is in them."""
    sender, receiver = log.sender, log.receiver
    packets = [Packet.from_bytes(bytes.fromhex(one)) for one in sender["packets"]]
    by_number = {(packet.epoch, packet.frame): packet for packet in packets}
    oracle = OracleDecoder(codec, by_number)
    ticks = {event["frame"]: int(event["name"]) for event in sender["events"] if event["event"] == "packed"}
    first_s: dict[int, float] = {}
    last: dict[int, tuple[int, int, int]] = {}
    wrong = 0
    for at_s, epoch, frame, layers, found in receiver["decoded"]:
        wrong += digest(oracle.latent(epoch, frame, layers)) != found
        first_s.setdefault(frame, at_s)
        last[frame] = (epoch, frame, layers)
    arrivals = [(at_s, sender["captured_s"][ticks[frame]]) for frame, at_s in first_s.items()]
    delays = [at_s - captured_s for at_s, captured_s in arrivals]
    inter_frames = [packet for packet in packets if packet.side_info.reference is not None]
    image_of = {number: ping_pong(ticks[packet.frame], len(images)) for number, packet in by_number.items()}
    judged = sorted(last)[:: max(1, len(last) // _JUDGED)]
    delivered_bytes = sum(by_number[number[:2]].prefix(number[2]).size_bytes for number in last.values())
    return {
        "frames": len(sender["captured_s"]),
        "packets": len(packets),
        "shown": len(first_s),
        "skipped": len(sender["captured_s"]) - len(first_s),
        "referring_share": len(inter_frames) / max(1, len(packets)),
        "bytes_per_packet": float(np.mean([packet.size_bytes for packet in packets])) if packets else None,
        "saved_share": _saved(packets, image_of, _keyframe_sizes(images, codec)),
        "delivered_bps": delivered_bytes * 8 / log.seconds,
        "wrong": wrong,
        "refused": receiver["refused"],
        "key_requests": receiver["key_requests"],
        "cuts": sum(event["event"] == "cut" for event in sender["events"]),
        "acks": receiver["acks"],
        "lost_acks": receiver["lost_acks"],
        "ms_ssim": _quality([last[frame] for frame in judged], oracle, image_of, images, codec),
        "delay_p50_s": percentile(delays, 50),
        "delay_p95_s": percentile(delays, 95),
        "age_p95_s": percentile(ages(sender["begin_s"], log.seconds, arrivals), 95),
    }


def _keyframe_sizes(images: list[Image], codec: Codec) -> Callable[[int, int, int], float]:
    """Size in bytes of a picture's keyframe at a level and of so many layers, each worked out once."""
    latents: dict[int, Any] = {}
    sizes: dict[tuple[int, int, int], float] = {}

    def size(index: int, level: int, layers: int) -> float:
        if index not in latents:
            latents[index] = codec.analyze(images[index])
        if (key := (index, level, layers)) not in sizes:
            sizes[key] = codec.pack(latents[index], quality=level / LEVELS).prefix(layers).size_bytes
        return sizes[key]

    return size


def _saved(
    packets: list[Packet], image_of: dict[tuple[int, int], int], keyframe_size: Callable[[int, int, int], float]
) -> float | None:
    """Share of bytes that inter frames saved, of what keyframes of the same pictures and qualities would take."""
    if not packets:
        return None
    sent = sum(packet.size_bytes for packet in packets)
    as_keyframes = 0.0
    for packet in packets:
        if packet.side_info.reference is None:
            as_keyframes += packet.size_bytes
        else:
            as_keyframes += keyframe_size(image_of[packet.epoch, packet.frame], packet.q, packet.total_layers)
    return 1 - sent / as_keyframes


def _quality(
    decoded: list[tuple[int, int, int]],
    oracle: OracleDecoder,
    image_of: dict[tuple[int, int], int],
    images: list[Image],
    codec: Codec,
) -> float | None:
    """Mean MS-SSIM of decoded frames against what the camera saw."""
    from edgesem.quality.metrics import ms_ssim

    found = [
        ms_ssim(images[image_of[epoch, frame]], codec.synthesize(oracle.latent(epoch, frame, layers)))
        for epoch, frame, layers in decoded
    ]
    return float(np.mean(found)) if found else None

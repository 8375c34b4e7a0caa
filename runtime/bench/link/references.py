"""Packets with and without references over an emulated link: what they save, and that none is ever drawn wrong.

Encoded, decoded and acknowledged as the run goes, with the real codec; judged afterwards against a decoder that has had
every packet.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation
from edgesem.trace import Trace
from runtime.bench.link.bench import Options, Outcome, run_ends
from runtime.bench.link.clip import Image
from runtime.bench.link.oracle_decoder import OracleDecoder
from runtime.bench.link.referring import digest, there_and_back

SENDERS = {"edgesem-intra": False, "edgesem-reference": True}
"""Names, and whether packets refer to others."""
MOST_IMAGES = 120
_JUDGED = 60
_AGE_STEP_S = 0.01


@dataclass(frozen=True)
class Run:
    """What both ends have written down of a run."""

    near: dict[str, Any]
    far: dict[str, Any]
    seconds: float


def run_references(
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
    """Let a sender of SENDERS run and return its figures; a share `lose_acks` of acknowledgements is never sent.

    prefer: "smooth" or "sharp", as of `runtime.congestion.frame_rate`.
    """
    with tempfile.TemporaryDirectory(prefix="edgesem-bench-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", np.stack(images))
        about = {"images": str(folder / "images.npy"), "bundle": str(codec.bundle.folder)}
        ended = run_ends(
            "runtime.bench.link.referring",
            near={**about, "refer": SENDERS[sender], "prefer": prefer},
            far={**about, "lose_acks": lose_acks, "seed": 1},
            folder=folder,
            trace=trace,
            options=options,
            relay=relay,
        )
    return Outcome({**figures(Run(ended.near, ended.far, options.seconds), images, codec), **ended.link}, {})


def figures(run: Run, images: list[Image], codec: Codec) -> dict[str, Any]:
    """The figures of one run. Delays are from capture to the decoded latent; both ends' work is in them."""
    near, far = run.near, run.far
    packets = [Packet.from_bytes(bytes.fromhex(one)) for one in near["packets"]]
    by_number = {(packet.epoch, packet.frame): packet for packet in packets}
    oracle = OracleDecoder(codec, by_number)
    tick = {one["frame"]: int(one["name"]) for one in near["told"] if one["event"] == "packed"}
    first_s: dict[int, float] = {}
    last: dict[int, tuple[int, int, int]] = {}
    wrong = 0
    for at_s, epoch, frame, layers, found in far["shown"]:
        wrong += digest(oracle.latent(epoch, frame, layers)) != found
        first_s.setdefault(frame, at_s)
        last[frame] = (epoch, frame, layers)
    delays = np.array([at_s - near["captured_s"][tick[frame]] for frame, at_s in first_s.items()])
    referring = [packet for packet in packets if packet.side_info.reference is not None]
    seen = {number: there_and_back(tick[packet.frame], len(images)) for number, packet in by_number.items()}
    judged = sorted(last)[:: max(1, len(last) // _JUDGED)]
    return {
        "frames": len(near["captured_s"]),
        "packets": len(packets),
        "shown": len(first_s),
        "skipped": len(near["captured_s"]) - len(first_s),
        "referring_share": len(referring) / max(1, len(packets)),
        "bytes_per_packet": float(np.mean([packet.size_bytes for packet in packets])) if packets else None,
        "saved_share": _saved(packets, seen, _sizes(images, codec)),
        "delivered_bps": sum(by_number[number[:2]].prefix(number[2]).size_bytes for number in last.values())
        * 8
        / run.seconds,
        "wrong": wrong,
        "refused": far["refused"],
        "key_requests": far["key_requests"],
        "cuts": sum(one["event"] == "cut" for one in near["told"]),
        "acks": far["acks"],
        "lost_acks": far["lost_acks"],
        "ms_ssim": _quality([last[frame] for frame in judged], oracle, seen, images, codec),
        "delay_p50_s": _percentile(delays, 50),
        "delay_p95_s": _percentile(delays, 95),
        "age_p95_s": _percentile(_ages(run, first_s, tick), 95),
    }


def _sizes(images: list[Image], codec: Codec) -> Callable[[int, int, int], float]:
    """How large the keyframe of a picture is at a level and of so many layers, each worked out once."""
    latents: dict[int, Any] = {}
    sizes: dict[tuple[int, int, int], float] = {}

    def size(index: int, level: int, layers: int) -> float:
        if index not in latents:
            latents[index] = codec.analyze(images[index])
        if (key := (index, level, layers)) not in sizes:
            sizes[key] = codec.trial(latents[index], level, layers).size_bytes
        return sizes[key]

    return size


def _saved(
    packets: list[Packet], seen: dict[tuple[int, int], int], key_size: Callable[[int, int, int], float]
) -> float | None:
    """The share of bytes that references saved, of what keyframes of the same pictures and qualities would be."""
    if not packets:
        return None
    sent = sum(packet.size_bytes for packet in packets)
    whole = 0.0
    for packet in packets:
        if packet.side_info == SideInformation():
            whole += packet.size_bytes
        else:
            whole += key_size(seen[packet.epoch, packet.frame], packet.q, packet.total_layers)
    return 1 - sent / whole


def _quality(
    shown: list[tuple[int, int, int]],
    oracle: OracleDecoder,
    seen: dict[tuple[int, int], int],
    images: list[Image],
    codec: Codec,
) -> float | None:
    """Mean MS-SSIM of decoded frames against what the camera saw."""
    from edgesem.quality.metrics import ms_ssim

    found = [
        ms_ssim(images[seen[epoch, frame]], codec.synthesize(oracle.latent(epoch, frame, layers)))
        for epoch, frame, layers in shown
    ]
    return float(np.mean(found)) if found else None


def _ages(run: Run, first_s: dict[int, float], tick: dict[int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The age of the newest decoded frame, each 10 ms; before the first, the time since the start."""
    begin_s, captured_s = run.near["begin_s"], run.near["captured_s"]
    came = sorted((at_s, captured_s[tick[frame]]) for frame, at_s in first_s.items())
    moments = begin_s + np.arange(0, run.seconds, _AGE_STEP_S)
    newest = np.maximum.accumulate([begin_s, *(captured for _, captured in came)])
    return np.asarray(moments - newest[np.searchsorted([at_s for at_s, _ in came], moments, "right")])


def _percentile(values: np.ndarray[Any, np.dtype[np.float64]], share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None

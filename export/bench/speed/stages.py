"""Processor time of a frame's stages, beside WebP and AVIF at the same size, all in turn on one thread.

What else runs on the machine slows down one round as it does the codecs beside it. So a ratio is taken within each
round, and the figure is the median of all rounds of all pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import edgesem
from edgesem.codec.copying import Copying
from edgesem.codec.options import PackOptions
from edgesem.codec.replenishment import Replenishment
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import baseline, finest
from export.bench.rd.clock import cpu_s

BASELINES = {"webp": "webp-m4", "avif_s6": "avif-s6", "avif_s9": "avif-s9"}
"""Codecs to compare with, by the ending of their figure's name."""
FRAMES_BEFORE = 3  # inter frames of a still scene before the one that is timed: the first has the most to send
CAMERA_NOISE = 1.0  # standard deviation, in grey levels, from one frame of a still scene to the next

Stages = dict[str, Callable[[], object]]


def time_frames(
    codec: edgesem.Codec, frames: Sequence[Frame], budget_bytes: int, rounds: int, done: Callable[[], None]
) -> dict[str, Any]:
    """Figures of pictures of one size, coded to `budget_bytes`; `done` is told of each round.

    `encode_over_webp` and so on: analyzing and packing over the other codec's encoding at the quality that fits.
    `inter_over_key`: what a sender does for a frame of a still scene, over what it does for a keyframe. `..._s`:
    seconds of processor time; `flow_step_s` is what one step adds to drawing. What the bundle cannot do is None.
    `sizes_bytes`: the mean size that each codec came to; where its lowest quality is more than the budget, that is
    what is timed.
    """
    seconds: list[dict[str, float]] = []
    sizes: list[dict[str, int]] = []
    for frame in frames:
        size, stages = _stages(codec, frame, budget_bytes)
        sizes.append(size)
        for work in stages.values():
            work()  # what is loaded or allocated once is not what a frame costs
        for _ in range(rounds):
            seconds.append({name: cpu_s(work) for name, work in stages.items()})
            done()
    encode = [one["analyze"] + one["pack"] for one in seconds]
    figures: dict[str, Any] = {
        f"encode_over_{name}": median(ours / one[name] for ours, one in zip(encode, seconds, strict=True))
        for name in BASELINES
    }
    ratios = [one["inter_frame"] / one["keyframe"] for one in seconds if "inter_frame" in one]
    figures["inter_over_key"] = median(ratios) if ratios else None
    figures["encode_s"] = median(encode)
    for name in ("analyze", "pack", "trial", "code", "unpack", "draw", *BASELINES):
        figures[f"{name}_s"] = median(one[name] for one in seconds)
    steps = [one["draw_one_step"] - one["draw"] for one in seconds if "draw_one_step" in one]
    figures["flow_step_s"] = median(steps) if steps else None
    figures["sizes_bytes"] = {name: round(sum(size[name] for size in sizes) / len(sizes)) for name in sizes[0]}
    return figures


def _stages(codec: edgesem.Codec, frame: Frame, budget_bytes: int) -> tuple[dict[str, int], Stages]:
    """The bytes that each codec makes of a frame, and the parts of the work by name."""
    latent = codec.analyze(frame)
    packet, known = codec.pack_decoded(latent, budget_bytes=budget_bytes)
    data = packet.to_bytes()
    received, trial = codec.unpack(packet), codec.trial(latent, packet.q)
    sizes = {"edgesem": len(data)}
    stages: Stages = {
        "analyze": lambda: codec.analyze(frame),
        "pack": lambda: codec.pack(latent, budget_bytes=budget_bytes).to_bytes(),
        "trial": lambda: codec.trial(latent, packet.q).bits,
        "code": trial.code,
    }
    for name, other in BASELINES.items():
        codec_beside = baseline(other)
        encode = partial(codec_beside.encode, frame)
        setting, coded = finest(encode, budget_bytes, codec_beside.highest) or (0, encode(0))
        sizes[name], stages[name] = len(coded), partial(encode, setting)
    stages["unpack"] = lambda: codec.unpack(edgesem.Packet.from_bytes(data))
    stages["draw"] = lambda: codec.synthesize(received)
    if codec.has_flow:
        stages["draw_one_step"] = lambda: codec.synthesize(received, steps=1)
    if codec.has_reference:
        stages |= _still_scene(codec, frame, packet, known, budget_bytes)
    return sizes, stages


def _still_scene(
    codec: edgesem.Codec, frame: Frame, key: edgesem.Packet, known: edgesem.Latent, budget_bytes: int
) -> Stages:
    """A sender's work for a later frame of the same scene, as an inter frame and as a keyframe."""
    random, previous, options, copying = np.random.default_rng(0), key, PackOptions(), Copying()
    scene = Replenishment(codec.analyze)
    copying.look(scene.analyze(frame))
    for number in range(1, 2 + FRAMES_BEFORE):
        later = np.rint(frame + random.normal(0, CAMERA_NOISE, frame.shape)).clip(0, 255).astype(np.uint8)
        named = Reference(previous.frame, len(previous.chunks))
        options = PackOptions(
            side_info=SideInformation(reference=named),
            reference=known,
            previous=previous,
            frame=number,
            copying=copying,
        )
        if number <= FRAMES_BEFORE:
            latent = scene.analyze(later)
            copying.look(latent)
            previous, known = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=options)

    def inter_frame() -> None:
        latent = scene.analyze(later)
        copying.look(latent)
        packet, _ = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=options)
        codec.is_cut(latent, packet, key)

    def keyframe() -> None:
        codec.pack_decoded(codec.analyze(later), budget_bytes=budget_bytes, options=PackOptions(previous=key))

    return {"inter_frame": inter_frame, "keyframe": keyframe}

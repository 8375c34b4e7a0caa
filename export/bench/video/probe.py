"""Close look at inter frames on a clip: time, unchanged positions, flicker, refinement."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.codec.copying import Copying
from edgesem.codec.latent import LEVELS, Latent, by_position, levels_of
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import in_steps
from edgesem.entropy.schedule import GROUPS
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame, ms_ssim
from export.bench.video.chain import chained
from export.bench.video.flicker import STILL, block_means, figures

PROBED_LEVEL = 140


def probe(codec: Codec, frames: Sequence[Frame], steps: Sequence[int]) -> dict[str, Any]:
    """All measurements of this file for the frames of one clip; flicker with each number of flow steps in `steps`."""
    budget_bytes = codec.pack(codec.analyze(frames[0]), quality=PROBED_LEVEL / LEVELS).size_bytes
    return {
        "again_share_of_bytes": again(codec, frames[0]),
        "sender": sender(codec, frames, budget_bytes),
        "unchanged": unchanged(codec, frames),
        **flickers(codec, frames, steps),
    }


def again(codec: Codec, frame: Frame) -> float:
    """Bytes of a frame that is the same as the one it refers to, over those of a keyframe; the mean of three more."""
    key, *others = (one.packet.size_bytes for one in chained(codec, [frame] * 4, PROBED_LEVEL))
    return float(np.mean(others)) / key


def sender(codec: Codec, frames: Sequence[Frame], budget_bytes: int) -> dict[str, Any]:
    """What a sender does with each frame, as a keyframe and then as one that refers, of the same budget each.

    time_ratio_p50: CPU time of analyze, pack and the look for a cut, over that of analyze and pack; ms_ssim by frame.
    """
    known: Latent | None = None
    previous: dict[bool, Packet] = {}
    copying = Copying()
    ratios, key_s, reference_s, levels, quality = [], [], [], [], []
    for number, frame in enumerate(frames):
        clock_s = time.thread_time()
        latent = codec.analyze(frame)
        key, decoded = codec.pack_decoded(
            latent, budget_bytes=budget_bytes, options=PackOptions(previous=previous.get(False))
        )
        between_s = time.thread_time()
        packet, mine = key, decoded
        if known is not None:
            latent = codec.analyze(frame)
            copying.look(latent)
            options = PackOptions(
                side_info=SideInformation(reference=Reference(number - 1, len(GROUPS))),
                reference=known,
                copying=copying,
                previous=previous.get(True, previous[False]),
            )
            packet, mine = codec.pack_decoded(latent, budget_bytes=budget_bytes, options=options)
            if codec.is_cut(latent, packet, previous[False]):
                packet, mine = key, decoded
            else:
                previous[True] = packet
            end_s = time.thread_time()
            key_s.append(between_s - clock_s)
            reference_s.append(end_s - between_s)
            ratios.append(reference_s[-1] / key_s[-1])
        previous[False], known = key, mine
        levels.append([key.q, packet.q])
        quality.append([ms_ssim(frame, codec.synthesize(one)) for one in (decoded, mine)])
    return {
        "budget_bytes": budget_bytes,
        "time_ratio_p50": float(np.median(ratios)),
        "key_s_p50": float(np.median(key_s)),
        "reference_s_p50": float(np.median(reference_s)),
        "levels": {"key": [one for one, _ in levels], "reference": [one for _, one in levels]},
        "ms_ssim": {"key": [one for one, _ in quality], "reference": [one for _, one in quality]},
    }


def unchanged(codec: Codec, frames: Sequence[Frame]) -> dict[str, float]:
    """What unchanged positions cost where nothing is copied: bits spent on them, of all bits of inter frames.

    same: positions that decode to what the reference has in all channels; still: whose pixels have hardly changed
    since the frame before.
    """
    known: Latent | None = None
    before: Frame | None = None
    total = same_bits = still_bits = 0.0
    same_positions, still_positions = [], []
    for frame in frames:
        latent = codec.analyze(frame)
        if known is not None and before is not None:
            bits, same, known = _bits(codec, latent, PROBED_LEVEL, known)
            still = block_means(np.abs(frame.astype(np.float64) - before).mean(2)) < STILL  # positions are blocks
            total += float(bits.sum())
            same_bits, still_bits = same_bits + float(bits[same].sum()), still_bits + float(bits[still].sum())
            same_positions.append(float(same.mean()))
            still_positions.append(float(still.mean()))
        else:
            known = codec.trial(latent, PROBED_LEVEL).decoded
        before = frame
    return {
        "same_share_of_positions": float(np.mean(same_positions)),
        "same_share_of_bits": same_bits / total,
        "still_share_of_positions": float(np.mean(still_positions)),
        "still_share_of_bits": still_bits / total,
    }


def flickers(codec: Codec, frames: Sequence[Frame], steps: Sequence[int]) -> dict[str, Any]:
    """How much still parts move at each number of flow steps, of keyframes, of inter frames, and of the clip itself.

    The four figures of `export.bench.video.flicker`: {name: {steps: {clip, intra, reference}}}.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for count in steps:
        for kind, pictures in {"clip": frames, **_drawn(codec, frames, count)}.items():
            for name, value in figures(frames, pictures).items():
                found.setdefault(name, {}).setdefault(f"{count}", {})[kind] = value
    return found


def _drawn(codec: Codec, frames: Sequence[Frame], steps: int) -> dict[str, list[Frame]]:
    """The pictures of a clip as keyframes, and as inter frames that each refer to the one before."""
    keys = (codec.trial(codec.analyze(frame), PROBED_LEVEL).decoded for frame in frames)
    inter = (one.decoded for one in chained(codec, frames, PROBED_LEVEL))
    return {
        name: [codec.synthesize(latent, steps=steps) for latent in latents]
        for name, latents in (("intra", keys), ("reference", inter))
    }


def _bits(
    codec: Codec, latent: Latent, level: int, reference: Latent
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], Latent]:
    """Bits of each position of an inter frame, where it is as its reference, and what is decoded from it."""
    height, width = latent.values.shape[1:]
    ledger = np.zeros(height * width)
    decoded = codec.trial(latent, level, reference=reference, ledger=ledger).decoded
    gain = by_position(codec.bundle.gain, levels_of(height, width, level, None))
    before, now = in_steps(reference, gain), in_steps(decoded, gain)
    return ledger.reshape(height, width), np.asarray((before == now).all(axis=0)), decoded

"""Where the bytes of inter frames go: by group of channels, by changed and unchanged area, by cause.

The frames of each scene (`export.bench.video.scenes`) are coded as a sender does, each with the one before as its
reference, and each symbol's bits are booked. The same walk answers what a frame would cost in other ways: with the
reference itself as the mean, with references of other levels, and as a packet that says nothing new.
The books are of frames that copy nothing; what copies make of the scenes stands beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import REFERENCE
from edgesem.bundle.runner import open_runner
from edgesem.codec import budget
from edgesem.codec.codec import Codec
from edgesem.codec.context import ContextModel
from edgesem.codec.latent import LEVELS, Latent, by_position, levels_of
from edgesem.codec.reference import in_steps, in_units
from edgesem.codec.rounding import coded_of
from edgesem.entropy import rans
from edgesem.entropy.schedule import GROUPS, MEAN_GRID, PASSES, Planes, positions, whole, within
from edgesem.entropy.tables import MAX_RADIUS
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame, ms_ssim
from export.bench.video.chain import chained
from export.bench.video.choices import choices
from export.bench.video.scenes import Scene, scenes

LEVEL = 140
FRAMES = 4  # inter frames of a scene
CAUSES = ("pulled", "owed", "new", "zeros")
"""Of the bits of symbols: see `_cause`."""
OTHER_LEVELS = (60, 100, 140, 180, 220, 255)
FINER = (LEVEL, 220)
"""Levels of the keyframes that frames with little news refer to."""
HELD_STEPS = (0.0, 0.1, 0.15, 0.2)
"""Positions whose latents differ by less from those of the frame before are held: root mean square over channels."""
Means = Literal["network", "reference"]
_HALF = 0.5  # steps: what differs by less is rounded to nothing


@dataclass(frozen=True)
class Booked:
    """An inter frame: its bytes, its bits [groups, causes, positions], what is decoded, how far means are pulled off.

    pulled_steps: how far the network's means lie from the reference, quantizer steps, [positions], the mean over
    channels.
    """

    size_bytes: int
    bits: npt.NDArray[np.float64]
    decoded: Latent
    pulled_steps: npt.NDArray[np.float64]


class Bookkeeper:
    """Codes inter frames of one bundle and books their bits. Its networks are its own; not thread-safe."""

    def __init__(self, codec: Codec) -> None:
        self._bundle = codec.bundle
        self._opened = ExitStack()
        self._runners = [open_runner(codec.bundle, name.removesuffix(".onnx")) for name in REFERENCE]
        for runner in self._runners:
            self._opened.callback(runner.close)

    def __enter__(self) -> Bookkeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def book(
        self,
        latent: Latent,
        before: Latent,
        reference: Latent,
        level: int = LEVEL,
        *,
        layers: int = len(GROUPS),
        means: Means = "network",
        held: npt.NDArray[np.bool_] | None = None,
    ) -> Booked:
        """An inter frame of `latent`. before: the encoder's own latent of the frame that was decoded to `reference`.

        means: "reference" puts the reference in place of each mean, which today's bitstream cannot. held, bool [h, w]:
        positions whose symbols are all 0, so that a receiver keeps what the networks expect there.
        """
        height, width = latent.values.shape[1:]
        levels = levels_of(height, width, level, None)
        steps = by_position(self._bundle.gain, levels)
        known = in_steps(reference, steps)
        tables = self._bundle.reference_tables
        planes = [whole(one) for one in (latent.values * steps, before.values * steps, known / np.float32(MEAN_GRID))]
        bits = np.zeros((len(GROUPS), len(CAUSES), height * width))
        pulled = np.zeros(height * width)
        entries: list[list[rans.Symbols]] = [[] for _ in range(layers)]

        def fill(index: int, mean: Planes, scale: Planes) -> Planes:
            sweep, where = PASSES[index], positions(index, height, width)
            wanted, owed, had = (sweep.read(one)[:, within(index, height, width)].ravel() for one in planes)
            where = np.broadcast_to(where, (sweep.stop - sweep.start, where.size)).ravel()
            pulled[:] += np.bincount(where, np.abs(mean / MEAN_GRID - had) / sum(GROUPS), pulled.size)
            if means == "reference":
                mean[:] = had * MEAN_GRID
            coded, scales = coded_of(scale, tables.first, index, True)
            off = np.rint(wanted[coded] - mean[coded] / MEAN_GRID)
            if held is not None:
                off[held.ravel()[where[coded]]] = 0
            symbols = tables.clipped(off.clip(-MAX_RADIUS, MAX_RADIUS).astype(np.int32), scales)
            entry = tables.entry(symbols, scales)
            entries[sweep.group].append(entry)
            cause = _cause(symbols, wanted[coded], owed[coded], had[coded])
            spent = np.bincount(cause * bits.shape[2] + where[coded], tables.bits[entry], bits[0].size)
            bits[sweep.group] += spent.reshape(bits[0].shape)
            mean[coded] += tables.eighths.take(entry)
            return mean

        model = ContextModel(self._runners, known, reference.reference_levels)
        values = model.walk(levels, layers).values(fill)
        chunks = rans.encode(entries, tables, rans.lanes_for(float(bits.sum())))
        size_bytes = budget.size(chunks) + SideInformation(reference=Reference(0, len(GROUPS))).size_bytes
        return Booked(size_bytes, bits, replace(latent, values=in_units(values, steps), level=level), pulled)


def where(codec: Codec, frames: Sequence[Frame], done: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """All tables for a clip of two frames or more: the scenes are made of its first frame."""
    made = scenes(frames[0], 1 + FRAMES)
    with Bookkeeper(codec) as books:
        report: dict[str, Any] = {"level": LEVEL, "frames": FRAMES, "scenes": {}}
        for name, scene in made.items():
            report["scenes"][name] = _scene(codec, books, scene)
            done()
        report["by_level_of_reference"] = _by_level(codec, books, made)
        report["nothing_new"] = _nothing_new(codec, books, made)
        report["held"] = _held(codec, books, made)
        report["copied"] = {name: _copied(codec, scene[0]) for name, scene in made.items()}
        report["choices"] = choices(codec, frames[0])
        done()
    return report


def _cause(symbols: npt.NDArray[Any], wanted: Planes, owed: Planes, had: Planes) -> npt.NDArray[np.int64]:
    """Why each symbol costs what it does, as an index of CAUSES; all in quantizer steps.

    pulled: the reference has the value, but the mean was pulled off it (a gate below 64). owed: the reference never
    got it, as its own frame wanted it already (its level, its gates). new: the frame differs from the one before, by
    change or noise. zeros: a symbol of 0, the price of what might have come.
    """
    cause = np.full(symbols.shape, CAUSES.index("new"))
    cause[np.abs(owed - had) > _HALF] = CAUSES.index("owed")
    cause[np.abs(wanted - had) <= _HALF] = CAUSES.index("pulled")
    cause[symbols == 0] = CAUSES.index("zeros")
    return cause


def _scene(codec: Codec, books: Bookkeeper, scene: Scene) -> dict[str, Any]:
    """Means over the inter frames of a scene."""
    latents = [codec.analyze(frame) for frame in scene[0]]
    key, known = codec.pack_decoded(latents[0], quality=LEVEL / LEVELS)
    found = []
    copied = []
    for before, latent in pairwise(latents):
        copied.append(books.book(latent, before, known, means="reference").size_bytes)
        found.append(books.book(latent, before, known))
        known = found[-1].decoded
    bits = np.stack([one.bits for one in found])  # [frames, groups, causes, positions]
    changed = np.stack([mask.ravel() for mask in scene[1][1:]])
    total = bits.sum()
    by_cause = bits.sum(1).transpose(1, 0, 2)  # [causes, frames, positions]
    pulled = np.stack([one.pulled_steps for one in found])
    return {
        "key_bytes": key.size_bytes,
        "bytes": [one.size_bytes for one in found],
        "share_of_key": float(np.mean([one.size_bytes for one in found])) / key.size_bytes,
        "share_of_key_if_copied": float(np.mean(copied)) / key.size_bytes,
        "bits_by_group": _shares(bits.sum((0, 2, 3)), range(len(GROUPS)), total),
        "changed_share_of_positions": float(changed.mean()),
        "unchanged": _shares([one[~changed].sum() for one in by_cause], CAUSES, total),
        "changed": _shares([one[changed].sum() for one in by_cause], CAUSES, total),
        "pulled_steps_unchanged": float(pulled[~changed].mean()) if not changed.all() else None,
        "ms_ssim": [
            ms_ssim(scene[0][-1], codec.synthesize(known)),
            ms_ssim(scene[0][0], codec.synthesize(codec.unpack(key))),
        ],
    }


def _shares(values: Any, names: Any, total: float) -> dict[str, float]:
    return {f"{name}": float(value / total) if total else 0.0 for name, value in zip(names, values, strict=True)}


def _by_level(codec: Codec, books: Bookkeeper, made: Mapping[str, Scene]) -> dict[str, dict[str, float]]:
    """What a still frame costs at LEVEL if the keyframe it refers to has another level, over a keyframe at LEVEL."""
    found: dict[str, dict[str, float]] = {}
    for name in ("identical", "noise"):
        first, second = (codec.analyze(frame) for frame in made[name][0][:2])
        key_bytes = codec.pack(second, quality=LEVEL / LEVELS).size_bytes
        found[name] = {}
        for level in OTHER_LEVELS:
            reference = codec.trial(first, level).decoded
            found[name][f"{level}"] = books.book(second, first, reference).size_bytes / key_bytes
    return found


def _nothing_new(codec: Codec, books: Bookkeeper, made: Mapping[str, Scene]) -> list[dict[str, Any]]:
    """Packets of today's bitstream whose symbols are all 0: bytes over a keyframe's, and the MS-SSIM of what is drawn.

    They refer to keyframes of two levels; `reference_ms_ssim` is what that one's own picture has for the new frame.
    """
    rows = []
    for name in ("identical", "noise"):
        frame = made[name][0][1]
        first, second = (codec.analyze(one) for one in made[name][0][:2])
        key_bytes = codec.pack(first, quality=LEVEL / LEVELS).size_bytes
        held = np.ones(first.values.shape[1:], bool)
        for reference_level in FINER:
            reference = codec.trial(first, reference_level).decoded
            still = ms_ssim(frame, codec.synthesize(reference))
            for level in (0, LEVEL // 2, LEVEL * 3 // 4, LEVEL):
                for layers in (1, len(GROUPS)):
                    one = books.book(second, first, reference, level, layers=layers, held=held)
                    rows.append(
                        {
                            "scene": name,
                            "reference_level": reference_level,
                            "level": level,
                            "layers": layers,
                            "bytes": one.size_bytes,
                            "share_of_key": one.size_bytes / key_bytes,
                            "ms_ssim": ms_ssim(frame, codec.synthesize(one.decoded)),
                            "reference_ms_ssim": still,
                        }
                    )
    return rows


def _copied(codec: Codec, frames: Sequence[Frame]) -> list[dict[str, float]]:
    """The inter frames of a scene as a sender codes them, where it copies what has not changed.

    key_s and encode_s are processor time, of the keyframe and of this frame, its analysis included.
    """
    key_bytes, key_s = 0, 0.0
    rows: list[dict[str, float]] = []
    for frame, one in zip(frames, chained(codec, frames, LEVEL), strict=True):
        encode_s, reference = one.clock.cpu_s(), one.packet.side_info.reference
        if reference is None:
            key_bytes, key_s = one.packet.size_bytes, encode_s
            continue
        key = codec.trial(codec.analyze(frame), LEVEL).decoded
        rows.append(
            {
                "bytes": one.packet.size_bytes,
                "share_of_key": one.packet.size_bytes / key_bytes,
                "copied_share_of_positions": 0.0 if one.packet.copied is None else float(one.packet.copied.mean()),
                "map_bytes": len(reference.copies),
                "ms_ssim": ms_ssim(frame, codec.synthesize(one.decoded)),
                "ms_ssim_of_keyframe": ms_ssim(frame, codec.synthesize(key)),
                "key_s": key_s,
                "encode_s": encode_s,
            }
        )
    return rows


def _held(codec: Codec, books: Bookkeeper, made: Mapping[str, Scene]) -> list[dict[str, Any]]:
    """Frames in which a sender leaves out all symbols where the latent hardly differs from that of the frame before.

    Bytes over those of a keyframe at LEVEL, with keyframes of two levels to refer to; 0 steps: nothing is held.
    """
    rows = []
    for name in ("noise", "object"):
        frame = made[name][0][1]
        first, second = (codec.analyze(one) for one in made[name][0][:2])
        key_bytes = codec.pack(first, quality=LEVEL / LEVELS).size_bytes
        off = (second.values - first.values) * codec.bundle.gain[LEVEL][:, None, None]
        differs = np.sqrt(np.square(off).mean(0))
        for reference_level in FINER:
            reference = codec.trial(first, reference_level).decoded
            for limit in HELD_STEPS:
                one = books.book(second, first, reference, held=differs < limit)
                rows.append(
                    {
                        "scene": name,
                        "reference_level": reference_level,
                        "limit_steps": limit,
                        "held_share_of_positions": float((differs < limit).mean()),
                        "share_of_key": one.size_bytes / key_bytes,
                        "ms_ssim": ms_ssim(frame, codec.synthesize(one.decoded)),
                    }
                )
    return rows

"""Measurement of codecs on clips: bytes a frame, quality, flicker and encoding time, of edgesem and of its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS, Latent
from edgesem.packet.packet import Packet
from edgesem.quality.metrics import Frame, bd_rate, gmsd, gmsd_db, ms_ssim, ms_ssim_db, psnr
from export.bench.video import peers, scenes
from export.bench.video.chain import chained
from export.bench.video.coded import ClipCoder, Clock, Coded
from export.bench.video.flicker import figures

OUR_QUALITIES = (220, 180, 140, 100, 60, 20)  # of 255
STILL_LEVEL = 140  # still scenes are compared at the quality of a keyframe of this level
STILL_FRAMES = 4  # after the keyframe
OURS = ("edgesem-intra", "edgesem-reference")

MEASURES = ("ms_ssim", "psnr", "gmsd")
"""What each row has beside the judges that a user names."""

Judge = Callable[[Frame, Frame], float]
Row = dict[str, float]


def points(
    names: Sequence[str],
    codec: Codec,
    frames: Sequence[Frame],
    rate_hz: float,
    key_interval_s: float,
    done: Callable[[], None],
    *,
    steps: int = 0,
    judges: Mapping[str, Judge] = {},
) -> dict[str, list[Row]]:
    """Means over a clip's frames of each codec at each of its settings, coarsest first; ours drawn with `steps`.

    All codecs take turns frame by frame, so what else the machine does hits their times alike. inter_cpu_s: the median
    of all frames but the first, which is a keyframe. background_share, of edgesem: of its keyframes, those that are
    predicted from a background picture of the bundle. flicker and the three after it: see
    `export.bench.video.flicker`; NaN where nothing stands still. judges: more measures by name.
    """
    all_coders = {name: _coders(name, codec, rate_hz, max(1, round(key_interval_s * rate_hz)), steps) for name in names}
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for index in range(max(map(len, all_coders.values()), default=0)):
        at_once = {name: coders[index] for name, coders in all_coders.items() if index < len(coders)}
        in_turn = zip(*(coder(frames) for coder in at_once.values()), strict=True)
        for name, coded in zip(at_once, zip(*in_turn, strict=True), strict=True):
            rows[name].append(_row(frames, coded, judges))
            done()
    return {name: sorted(found, key=lambda row: row["bytes_per_frame"]) for name, found in rows.items()}


def still(names: Sequence[str], codec: Codec, frame: Frame, rate_hz: float) -> dict[str, Row]:
    """What a frame costs in which nothing moves, over the keyframe before it, by codec.

    identical_share: the keyframe's frame again; noisy_share: the same with noise that is new in each frame, keyframe
    included. Of the setting whose keyframe has the MS-SSIM next to that of a packet of STILL_LEVEL; the means of
    STILL_FRAMES frames, MS-SSIM and GMSD of the last of them.
    """
    target = ms_ssim(
        frame, codec.synthesize(codec.unpack(codec.pack(codec.analyze(frame), quality=_share(STILL_LEVEL))))
    )
    same, noisy = scenes.identical(frame, 1 + STILL_FRAMES), scenes.noisy(frame, 1 + STILL_FRAMES)
    found = {}
    for name in names:
        choices = _coders(name, codec, rate_hz, 1 + STILL_FRAMES, 0)
        keys = [one for coder in choices for one in coder(same[:1])]
        off = [abs(ms_ssim_db(ms_ssim(frame, key.picture)) - ms_ssim_db(target)) for key in keys]
        coder = choices[int(np.argmin(off))]
        found[name] = {"key_bytes": float(keys[int(np.argmin(off))].size_bytes)}
        for kind, scene in (("identical", same), ("noisy", noisy)):
            key, *others = coder(scene)
            size_bytes = float(np.mean([one.size_bytes for one in others]))
            found[name] |= {
                f"{kind}_share": size_bytes / key.size_bytes,
                f"{kind}_bytes": size_bytes,
                f"{kind}_ms_ssim": ms_ssim(scene[-1], others[-1].picture),
                f"{kind}_gmsd": gmsd(scene[-1], others[-1].picture),
                f"{kind}_encode_cpu_s": float(np.mean([one.encode_cpu_s for one in others])),
            }
    return found


def settings_of(name: str) -> int:
    """How many settings a codec is measured at."""
    return len(OUR_QUALITIES if name in OURS else peers.settings_of(name))


def share_at_equal_quality(mine: Sequence[Row], other: Sequence[Row], measure: str = "ms_ssim") -> float | None:
    """Bytes of one codec over those of another at equal MS-SSIM or GMSD, in the mean over what both reach.

    None if there is nothing that both reach.
    """
    in_db = {"ms_ssim": ms_ssim_db, "gmsd": gmsd_db}[measure]
    old, new = ([(row["bytes_per_frame"], in_db(row[measure])) for row in rows] for rows in (other, mine))
    found = bd_rate(old, new)
    return None if found is None else 1 + found.percent / 100


def share_of_time(mine: Sequence[Row], other: Sequence[Row]) -> float:
    """Processor time of an inter frame over that of another codec; of each, the median over its settings."""
    times = [float(np.median([row["inter_cpu_s"] for row in rows])) for rows in (mine, other)]
    return times[0] / times[1] if times[1] else float("nan")


def _row(frames: Sequence[Frame], coded: Sequence[Coded], judges: Mapping[str, Judge]) -> Row:
    pairs = [(frame, one.picture) for frame, one in zip(frames, coded, strict=True)]
    keyframes = [one.from_background for one in coded if one.from_background is not None]
    measures: dict[str, Judge] = {**dict(zip(MEASURES, (ms_ssim, psnr, gmsd), strict=True)), **judges}
    return {
        "bytes_per_frame": float(np.mean([one.size_bytes for one in coded])),
        **{name: float(np.mean([measure(*pair) for pair in pairs])) for name, measure in measures.items()},
        **figures(frames, [one.picture for one in coded]),
        "encode_s": float(np.mean([one.encode_s for one in coded])),
        "encode_cpu_s": float(np.mean([one.encode_cpu_s for one in coded])),
        "inter_cpu_s": float(np.median([one.encode_cpu_s for one in coded[1:] or coded])),
        **({"background_share": float(np.mean(keyframes))} if keyframes else {}),
    }


def _coders(name: str, codec: Codec, rate_hz: float, key_every: int, steps: int) -> list[ClipCoder]:
    if name == "edgesem-intra":
        return [partial(_intra, codec, q, steps) for q in OUR_QUALITIES]
    if name == "edgesem-reference":
        return [partial(_referring, codec, q, key_every, steps) for q in OUR_QUALITIES]
    return peers.coders(name, rate_hz, key_every)


def _intra(codec: Codec, q: int, steps: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    for frame in frames:
        clock = Clock()
        packet = codec.pack(codec.analyze(frame), quality=_share(q))
        draw = partial(_drawn, codec, packet, None, steps)
        yield clock.coded(packet.size_bytes, draw, from_background=packet.side_info.background is not None)


def _referring(codec: Codec, q: int, key_every: int, steps: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    for one in chained(codec, frames, q, key_every=key_every):
        draw = partial(_drawn, codec, one.packet, one.reference, steps)
        yield one.clock.coded(one.packet.size_bytes, draw, from_background=one.from_background)


def _drawn(codec: Codec, packet: Packet, reference: Latent | None, steps: int) -> Frame:
    return codec.synthesize(codec.unpack(packet, reference), steps=steps)


def _share(level: int) -> float:
    return level / LEVELS

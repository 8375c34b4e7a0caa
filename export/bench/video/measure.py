"""Measurement of codecs on clips: bytes a frame, quality, flicker and encoding time, of edgesem and of video codecs."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import PackOptions
from edgesem.errors import require
from edgesem.packet.packet import HEADER_BYTES, Packet
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame, bd_rate, ms_ssim, ms_ssim_db, psnr

OUR_QUALITIES = (20, 60, 100, 140, 180, 220)  # of 255
RATE_FACTORS = {"x264": (26, 31, 36, 41, 46, 51), "x265": (26, 31, 36, 41, 46, 51)}
AVIF_QUALITIES = (20, 35, 50, 65, 80)
CODECS = (
    "edgesem-intra",
    "edgesem-reference",
    "x264-ultrafast",
    "x264-veryfast",
    "x264-medium",
    "x265-ultrafast",
    "x265-medium",
    "avif-s8",
)


_UNCHANGED = 2.0  # grey levels


@dataclass(frozen=True)
class Coded:
    """One frame as it was sent: its bytes, what a receiver sees, and what it took to encode."""

    size_bytes: int
    picture: Frame
    encode_s: float
    encode_cpu_s: float


ClipCoder = Callable[[Sequence[Frame]], Iterator[Coded]]
"""Codes and decodes the frames of a clip in order."""


def points(
    name: str,
    codec: Codec,
    frames: Sequence[Frame],
    rate_hz: float,
    key_interval_s: float,
    done: Callable[[], None],
    steps: int = 0,
) -> list[dict[str, float]]:
    """Means over a clip's frames at each setting of a codec, coarsest first; ours drawn with `steps`."""
    rows = []
    for coder in _settings(name, codec, rate_hz, max(1, round(key_interval_s * rate_hz)), steps):
        coded = list(coder(frames))
        rows.append(
            {
                "bytes_per_frame": float(np.mean([one.size_bytes for one in coded])),
                "ms_ssim": float(np.mean([ms_ssim(a, b.picture) for a, b in zip(frames, coded, strict=True)])),
                "psnr": float(np.mean([psnr(a, b.picture) for a, b in zip(frames, coded, strict=True)])),
                "flicker": flicker(frames, [one.picture for one in coded]),
                "encode_s": float(np.mean([one.encode_s for one in coded])),
                "encode_cpu_s": float(np.mean([one.encode_cpu_s for one in coded])),
            }
        )
        done()
    return sorted(rows, key=lambda row: row["bytes_per_frame"])


def flicker(originals: Sequence[Frame], pictures: Sequence[Frame]) -> float:
    """How much unchanged parts move from frame to frame: standard deviation over time, in grey levels of 255.

    The mean over the pixels whose own deviation is below _UNCHANGED; NaN if there are none.
    """
    before, after = (_deviation(one) for one in (originals, pictures))
    still = before < _UNCHANGED
    return float(after[still].mean()) if still.any() else float("nan")


def _deviation(pictures: Sequence[Frame]) -> npt.NDArray[np.float32]:
    """Of each pixel's grey over time, float32 [H, W]."""
    return np.stack([picture.mean(2, dtype=np.float32) for picture in pictures]).std(0)


def settings_of(name: str) -> int:
    """How many settings a codec is measured at."""
    return len(OUR_QUALITIES if name.startswith("edgesem") else RATE_FACTORS.get(name.split("-")[0], AVIF_QUALITIES))


def share_at_equal_quality(mine: Sequence[dict[str, float]], other: Sequence[dict[str, float]]) -> float | None:
    """Bytes of one codec over those of another at equal MS-SSIM, in the mean over what both reach; None if nothing."""
    old, new = ([(row["bytes_per_frame"], ms_ssim_db(row["ms_ssim"])) for row in rows] for rows in (other, mine))
    found = bd_rate(old, new)
    return None if found is None else 1 + found.percent / 100


def _settings(name: str, codec: Codec, rate_hz: float, key_every: int, steps: int) -> list[ClipCoder]:
    kind, _, preset = name.partition("-")
    if name == "edgesem-intra":
        return [partial(_intra, codec, q, steps) for q in OUR_QUALITIES]
    if name == "edgesem-reference":
        return [partial(_referring, codec, q, key_every, steps) for q in OUR_QUALITIES]
    if kind in RATE_FACTORS:
        return [partial(_video, kind, preset, q, rate_hz, key_every) for q in RATE_FACTORS[kind]]
    return [partial(_avif, q) for q in AVIF_QUALITIES]


def _intra(codec: Codec, q: int, steps: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    for frame in frames:
        clock = _Clock()
        packet = codec.pack(codec.analyze(frame), quality=q / LEVELS)
        yield clock.coded(packet.size_bytes, partial(_drawn, codec, packet, None, steps))


def _referring(codec: Codec, q: int, key_every: int, steps: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    """Each frame refers to the one before, as it does where acknowledgements come back within a frame's time."""
    known: Latent | None = None
    for index, frame in enumerate(frames):
        clock = _Clock()
        reference = None if index % key_every == 0 else known
        side_info = SideInformation() if reference is None else SideInformation(reference=Reference(index - 1, 4))
        latent = codec.analyze(frame)
        options = PackOptions(side_info=side_info, reference=reference, frame=index)
        packet, mine = codec.pack_decoded(latent, quality=q / LEVELS, options=options)
        yield clock.coded(packet.size_bytes, partial(_drawn, codec, packet, reference, steps))
        known = mine


def _drawn(codec: Codec, packet: Packet, reference: Latent | None, steps: int) -> Frame:
    return codec.synthesize(codec.unpack(packet, reference), steps=steps)


def _video(
    kind: str, preset: str, crf: int, rate_hz: float, key_every: int, frames: Sequence[Frame]
) -> Iterator[Coded]:
    """x264 or x265 without delay: each frame out before the next goes in, and each decoded by itself in order."""
    av = require("av", "video")

    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    encoder: Any = av.CodecContext.create(f"lib{kind}", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(rate_hz).limit_denominator(1000)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = 1
    encoder.options = {"preset": preset, "tune": "zerolatency", "crf": str(crf), f"{kind}-params": _params(key_every)}
    decoder: Any = av.CodecContext.create("h264" if kind == "x264" else "hevc", "r")
    for index, frame in enumerate(frames):
        clock = _Clock()
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        picture.pts = index
        data = b"".join(bytes(part) for part in encoder.encode(picture))

        def decode(data: bytes = data, frame: Frame = frame) -> Frame:
            decoded = decoder.decode(av.Packet(data))
            return _padded(np.asarray(decoded[-1].to_ndarray(format="rgb24"), np.uint8), frame) if decoded else frame

        yield clock.coded(HEADER_BYTES + len(data), decode)


def _params(key_every: int) -> str:
    return f"keyint={key_every}:min-keyint={key_every}:scenecut=0:log-level=none:log=none"


def _avif(quality: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    from PIL import Image

    for frame in frames:
        clock, buffer = _Clock(), io.BytesIO()
        Image.fromarray(frame).save(buffer, "AVIF", quality=quality, speed=8, max_threads=1)

        def decode(buffer: io.BytesIO = buffer) -> Frame:
            return np.asarray(Image.open(buffer).convert("RGB"))

        yield clock.coded(len(buffer.getvalue()), decode)


class _Clock:
    """Wall and processor time since its creation."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def coded(self, size_bytes: int, decode: Callable[[], Frame]) -> Coded:
        """The frame that was encoded since; the time of decoding does not count."""
        wall_s, cpu_s = time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
        return Coded(size_bytes, decode(), wall_s, cpu_s)


def _padded(picture: Frame, original: Frame) -> Frame:
    """A picture with even sides, repeated at its edge to the size of the original that it was cut from."""
    rows, columns = original.shape[0] - picture.shape[0], original.shape[1] - picture.shape[1]
    return picture if not rows and not columns else np.pad(picture, ((0, rows), (0, columns), (0, 0)), "edge")

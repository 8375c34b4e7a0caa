"""Clip of precoded frames: packets of many sizes for each frame, and the measured quality of each.

A bench run over a clip spends no time on encoding, so it measures the link and not how busy the machine is. The packets
are those of the real codec, the qualities those of real decodes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.engine import cache_folder
from edgesem.codec.options import PackOptions
from edgesem.errors import BudgetError, InputError
from edgesem.files import find_pictures, read_picture, write_whole
from edgesem.packet.packet import MAX_LAYERS, Packet
from edgesem.sources import program_digest
from edgesem.video import read_video

if TYPE_CHECKING:
    from edgesem.codec.codec import Codec

Image = NDArray[np.uint8]
_LONGEST_SIDE = 1024
_MIN_SIDE = 176  # MS-SSIM needs five scales
_STEPS = 32
_JUDGED = 6
_STEP_PIXELS = 8
_DETAILED = "05_street_night.jpg"
_VERSION = 3


@dataclass(frozen=True)
class Clip:
    """A few frames that a camera sees forwards, backwards and so on, each coded at many quality steps.

    packets: [frame][step]. qualities: float [frame, step, layers - 1], MS-SSIM of the decoded frame, 0..1. similarity:
    float [frame, frame], MS-SSIM between the originals: what a stale picture is worth.
    """

    packets: list[list[Packet]]
    qualities: NDArray[np.float64]
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.packets)

    def index(self, tick: int) -> int:
        """Which frame the camera sees at its `tick`-th picture."""
        return ping_pong(tick, len(self))

    def largest_bytes(self, index: int, max_bytes: int) -> int:
        """Size of the frame's largest packet of at most `max_bytes`; `max_bytes` if all are larger."""
        return max((p.size_bytes for p in self.packets[index] if p.size_bytes <= max_bytes), default=max_bytes)

    def quality(self, shown: int, q: int, layers: int, seen: int) -> float:
        """How well frame `shown`, as received, shows frame `seen`, which the camera sees now; 0..1.

        The quality of the decoded frame times the similarity of the two originals: a product, so that not each pair has
        to be decoded.
        """
        step = int(np.argmin([abs(packet.q - q) for packet in self.packets[shown]]))
        return float(self.qualities[shown, step, layers - 1] * self.similarity[shown, seen])


class ClipCodec:
    """Encoder of a sender that looks its packets up in a clip; stands in for the real codec."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def analyze(self, frame: Image) -> int:
        """The frame's index in the clip, which `placeholder` wrote into the picture."""
        return int(frame[0, 0, 0])

    def pack(self, latent: int, *, budget_bytes: int, options: PackOptions) -> Packet:
        """The frame's largest packet within the budget; BudgetError if there is none."""
        packets = self._clip.packets[latent]
        fitting = [packet for packet in packets if packet.size_bytes <= budget_bytes]
        if not fitting:
            smallest = min(packet.size_bytes for packet in packets)
            raise BudgetError(f"{smallest} bytes is the smallest, {budget_bytes} allowed", smallest_bytes=smallest)
        best = max(fitting, key=lambda packet: packet.size_bytes)
        return replace(best, epoch=options.epoch, frame=options.frame, time_ms=options.time_ms)


def placeholder(index: int) -> Image:
    """A small picture that carries a frame's index for `ClipCodec.analyze`; uint8 [64, 64, 3]."""
    return np.full((64, 64, 3), index, np.uint8)


def ping_pong(tick: int, count: int) -> int:
    """The `tick`-th index of 0, 1, ..., count - 1, count - 2, ..., 0, 1, ..."""
    place = tick % max(1, 2 * count - 2)
    return place if place < count else 2 * count - 2 - place


def load_images(source: Path | None, count: int, fps: float, start_s: float = 0.0) -> list[Image]:
    """`count` pictures as a camera takes them, uint8 [H, W, 3], at most 1024 pixels wide or high.

    source: a folder of pictures of one size, a video (from `start_s` on), or None: a photograph over which a piece of
    it moves. Raises InputError.
    """
    if source is None:
        from runtime.capture.frame import PHOTOS

        return _moving_piece(_shrink(read_picture(PHOTOS / _DETAILED)), count)
    if source.is_dir():
        pictures = [_shrink(read_picture(path)) for path in find_pictures(source)[:count]]
        if len({picture.shape for picture in pictures}) > 1:
            raise InputError(f"{source}: pictures of different sizes; a camera has one: name a folder of equal ones")
        return pictures
    return _video(source, count, fps, start_s)


def load_clip(
    images: list[Image], codec: Codec, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Clip:
    """The clip of these pictures, encoded now or from the cache of an earlier run (in `~/.cache/edgesem`)."""
    path = cache_path(images, codec)
    if path.is_file():
        return read_clip(path)
    clip = _encode(images, codec, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(clip, path)
    return clip


def cache_path(images: list[Image], codec: Codec) -> Path:
    """Where the clip of these pictures is cached; another place for another bundle, and for changed code."""
    digest = hashlib.sha256(f"{_VERSION} {program_digest()} {codec.bundle.digest}".encode())
    for image in images:
        digest.update(image.tobytes())
    return cache_folder() / f"clip-{digest.hexdigest()[:24]}.npz"


def write_clip(clip: Clip, path: Path) -> None:
    """Write a clip to an NPZ file."""
    data = [packet.to_bytes() for packets in clip.packets for packet in packets]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        lengths=np.array([len(one) for one in data]),
        packets=np.frombuffer(b"".join(data), np.uint8),
        qualities=clip.qualities,
        alike=clip.similarity,
    )
    write_whole(path, buffer.getvalue())


def read_clip(path: Path) -> Clip:
    """The clip in a file of `write_clip`."""
    with np.load(path, allow_pickle=False) as file:
        qualities, similarity, lengths = file["qualities"], file["alike"], file["lengths"]
        stream = file["packets"].tobytes()
    ends = np.cumsum(lengths)
    flat = [Packet.from_bytes(stream[end - size : end]) for end, size in zip(ends, lengths, strict=True)]
    steps = qualities.shape[1]
    return Clip([flat[start : start + steps] for start in range(0, len(flat), steps)], qualities, similarity)


def _encode(images: list[Image], codec: Codec, progress: Callable[[int, int], None]) -> Clip:
    """Encode each picture at `_STEPS` qualities and judge `_JUDGED` of them; the others are interpolated."""
    from edgesem.quality.metrics import ms_ssim

    steps = np.unique(np.linspace(0, 255, _STEPS).round().astype(int))
    judged = np.unique(np.linspace(0, len(steps) - 1, _JUDGED).round().astype(int))
    packets: list[list[Packet]] = []
    qualities = np.zeros((len(images), len(steps), MAX_LAYERS))
    for number, image in enumerate(images):
        progress(number, len(images))
        latent = codec.analyze(image)
        row = [codec.pack(latent, quality=step / 255) for step in steps]
        packets.append(row)
        for layers in range(1, MAX_LAYERS + 1):
            found = [ms_ssim(image, codec.synthesize(codec.unpack(row[at].prefix(layers)))) for at in judged]
            qualities[number, :, layers - 1] = np.interp(np.arange(len(steps)), judged, found)
    similarity = np.eye(len(images))
    for one in range(len(images)):
        for other in range(one):
            similarity[one, other] = similarity[other, one] = ms_ssim(images[one], images[other])
    progress(len(images), len(images))
    return Clip(packets, qualities, similarity)


def _shrink(image: Image) -> Image:
    from PIL import Image as Pillow

    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    if min(size) < _MIN_SIDE:
        raise InputError(f"a frame of {size[0]}x{size[1]} pixels is too small to be judged, {_MIN_SIDE} is the least")
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS))


def _moving_piece(image: Image, count: int) -> list[Image]:
    """What a fixed camera sees while something passes: a piece of the picture moves over the rest."""
    height, width = image.shape[0] // 3, image.shape[1] // 5
    piece = image[-height:, :width].copy()
    images = []
    for at in range(count):
        seen, left = image.copy(), width + _STEP_PIXELS * at
        seen[height : 2 * height, left : left + width] = piece[:, : max(0, image.shape[1] - left)]
        images.append(seen)
    return images


def _video(path: Path, count: int, fps: float, start_s: float) -> list[Image]:
    return [_shrink(frame.rgb()) for frame in islice(read_video(path, rate_hz=fps, start_s=start_s), count)]

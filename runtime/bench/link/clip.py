"""Frames with everything about them worked out once: packets of many sizes, and how good each is when decoded.

So a bench run spends no time on encoding, and measures the link and not how busy this machine is. The packets are
those of the real codec and the quality is that of real decodes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import BudgetError, InputError, require
from edgesem.files import find_pictures, read_picture, write_whole
from edgesem.packet.packet import MAX_LAYERS, Packet

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
    """A short film that runs forwards and backwards, as `sizes` steps of quality for each frame.

    qualities: float [frame, step, layers - 1], MS-SSIM of the decoded frame; alike: float [frame, frame], MS-SSIM
    between the originals, for what a stale picture is worth.
    """

    packets: list[list[Packet]]
    qualities: NDArray[np.float64]
    alike: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.packets)

    def index(self, tick: int) -> int:
        """Which frame the camera sees at its `tick`-th picture."""
        if len(self) == 1:
            return 0
        place = tick % (2 * len(self) - 2)
        return place if place < len(self) else 2 * len(self) - 2 - place

    def largest_bytes(self, index: int, max_bytes: int) -> int:
        """The most that is any use for one frame."""
        return max((p.size_bytes for p in self.packets[index] if p.size_bytes <= max_bytes), default=max_bytes)

    def quality(self, shown: int, q: int, layers: int, seen: int) -> float:
        """How well frame `shown`, as received, shows what the camera sees now, frame `seen`.

        The quality of the decoded frame times how much the two originals are alike: a product, so that not each pair
        of the two must be decoded.
        """
        step = int(np.argmin([abs(packet.q - q) for packet in self.packets[shown]]))
        return float(self.qualities[shown, step, layers - 1] * self.alike[shown, seen])


class ClipCodec:
    """Stands in for the codec of a sender: knows the clip's frames, and hands out the packet that fits."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip

    def analyze(self, frame: Image) -> int:
        """The index that a bench frame carries in place of a picture."""
        return int(frame[0, 0, 0])

    def pack(self, latent: int, *, budget_bytes: int, epoch: int, frame: int, time_ms: int) -> Packet:
        """The largest packet of that frame within the budget; BudgetError if there is none."""
        packets = self._clip.packets[latent]
        fitting = [packet for packet in packets if packet.size_bytes <= budget_bytes]
        if not fitting:
            smallest = min(packet.size_bytes for packet in packets)
            raise BudgetError(f"{smallest} bytes is the smallest, {budget_bytes} allowed", smallest_bytes=smallest)
        best = max(fitting, key=lambda packet: packet.size_bytes)
        return replace(best, epoch=epoch, frame=frame, time_ms=time_ms)


def placeholder(index: int) -> Image:
    """A small picture that `ClipCodec.analyze` knows again."""
    return np.full((64, 64, 3), index, np.uint8)


def load_images(source: Path | None, count: int, fps: float, start_s: float = 0.0) -> list[Image]:
    """`count` pictures as a camera takes them: a folder, a video from `start_s` on, or a photograph that is passed."""
    if source is None:
        from runtime.capture.frame import PHOTOS

        return _passing(_shrink(read_picture(PHOTOS / _DETAILED)), count)
    if source.is_dir():
        pictures = [_shrink(read_picture(path)) for path in find_pictures(source)[:count]]
        if len({picture.shape for picture in pictures}) > 1:
            raise InputError(f"{source}: pictures of different sizes; a camera has one: name a folder of equal ones")
        return pictures
    return _video(source, count, fps, start_s)


def load_clip(images: list[Image], codec: Codec, told: Callable[[int, int], None] = lambda _done, _all: None) -> Clip:
    """The clip of these pictures, from the cache if it has been worked out before (in `~/.cache/edgesem`)."""
    digest = hashlib.sha256(f"{_VERSION} {codec.bundle.digest}".encode())
    for image in images:
        digest.update(image.tobytes())
    path = cache_folder() / f"clip-{digest.hexdigest()[:24]}.npz"
    if path.is_file():
        return read_clip(path)
    clip = _work_out(images, codec, told)
    write_clip(clip, path)
    return clip


def cache_folder() -> Path:
    """Where clips are kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgesem"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_clip(clip: Clip, path: Path) -> None:
    """Keep a clip in a file."""
    import io

    data = [packet.to_bytes() for packets in clip.packets for packet in packets]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        lengths=np.array([len(one) for one in data]),
        packets=np.frombuffer(b"".join(data), np.uint8),
        qualities=clip.qualities,
        alike=clip.alike,
    )
    write_whole(path, buffer.getvalue())


def read_clip(path: Path) -> Clip:
    """The clip in a file of `write_clip`."""
    with np.load(path, allow_pickle=False) as file:
        qualities, alike, lengths = file["qualities"], file["alike"], file["lengths"]
        stream = file["packets"].tobytes()
    ends = np.cumsum(lengths)
    flat = [Packet.from_bytes(stream[end - size : end]) for end, size in zip(ends, lengths, strict=True)]
    steps = qualities.shape[1]
    return Clip([flat[start : start + steps] for start in range(0, len(flat), steps)], qualities, alike)


def _work_out(images: list[Image], codec: Codec, told: Callable[[int, int], None]) -> Clip:
    from edgesem.quality.metrics import ms_ssim

    steps = np.unique(np.linspace(0, 255, _STEPS).round().astype(int))
    judged = np.unique(np.linspace(0, len(steps) - 1, _JUDGED).round().astype(int))
    packets: list[list[Packet]] = []
    qualities = np.zeros((len(images), len(steps), MAX_LAYERS))
    for number, image in enumerate(images):
        told(number, len(images))
        latent = codec.analyze(image)
        row = [codec.pack(latent, quality=step / 255) for step in steps]
        packets.append(row)
        for layers in range(1, MAX_LAYERS + 1):
            seen = [ms_ssim(image, codec.synthesize(codec.unpack(row[at].prefix(layers)))) for at in judged]
            qualities[number, :, layers - 1] = np.interp(np.arange(len(steps)), judged, seen)
    alike = np.eye(len(images))
    for one in range(len(images)):
        for other in range(one):
            alike[one, other] = alike[other, one] = ms_ssim(images[one], images[other])
    told(len(images), len(images))
    return Clip(packets, qualities, alike)


def _shrink(image: Image) -> Image:
    from PIL import Image as Pillow

    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    if min(size) < _MIN_SIDE:
        raise InputError(f"a frame of {size[0]}x{size[1]} pixels is too small to be judged, {_MIN_SIDE} is the least")
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS))


def _passing(image: Image, count: int) -> list[Image]:
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
    av = require("av", "video")

    images: list[Image] = []
    try:
        with av.open(str(path)) as container:
            for picture in container.decode(video=0):
                if picture.time is not None and picture.time >= start_s + len(images) / fps - 1e-3:
                    images.append(_shrink(np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)))
                if len(images) == count:
                    break
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error})") from error
    if not images:
        raise InputError(f"{path}: no picture could be decoded from this video")
    return images

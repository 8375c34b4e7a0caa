"""How a received picture compares with its original, and with a JPEG that costs the same."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgesem.quality.metrics import ms_ssim, psnr

Pixels = NDArray[np.uint8]
_BEST_QUALITY = 95  # Pillow's own advice: above it, files only grow


@dataclass(frozen=True)
class Jpeg:
    """A JPEG of about the bytes asked for; larger than those only if none is so small."""

    image: Pixels
    size_bytes: int
    quality: int
    fits: bool


def jpeg_within(image: Pixels, budget_bytes: int) -> Jpeg:
    """The best JPEG of at most `budget_bytes`; if even quality 1 is larger, that one."""
    low, high = 1, _BEST_QUALITY
    while low < high:
        middle = (low + high + 1) // 2
        if len(_jpeg(image, middle)) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    data = _jpeg(image, low)
    with Image.open(io.BytesIO(data)) as decoded:
        return Jpeg(np.asarray(decoded.convert("RGB")), len(data), low, len(data) <= budget_bytes)


def _jpeg(image: Pixels, quality: int) -> bytes:
    """The smallest file that Pillow makes at this quality."""
    picture = Image.fromarray(image)
    files = []
    for progressive in (False, True):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True, progressive=progressive, subsampling="4:2:0")
        files.append(buffer.getvalue())
    return min(files, key=len)


def of_the_size_of(original: Pixels, decoded: Pixels) -> Pixels:
    """A received picture as large as its original: on a link that is too thin, a sender shrinks what it sends."""
    if decoded.shape == original.shape:
        return decoded
    height, width = original.shape[:2]
    return np.asarray(Image.fromarray(decoded).resize((width, height), Image.Resampling.BICUBIC))


def measure(original: Pixels, decoded: Pixels, size_bytes: int) -> dict[str, Any]:
    """What `decoded` cost and how good it is, as report.json has it; PSNR is None for equal pictures."""
    psnr_db = psnr(original, decoded)
    return {
        "size_bytes": size_bytes,
        "bpp": round(8 * size_bytes / (original.shape[0] * original.shape[1]), 4),
        "psnr_db": round(psnr_db, 3) if math.isfinite(psnr_db) else None,
        "ms_ssim": round(ms_ssim(original, decoded), 5),
    }

"""Evaluation of a codec in training on whole pictures: bits by its own probabilities, before there is a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import GROUPS, STRIDE
from edgesem.quality.metrics import bd_rate, ms_ssim, ms_ssim_db, psnr
from export.training.codec import CodecNet
from export.training.losses import symbol_bits

EVALUATED_LEVELS = (0, 60, 120, 180, 255)


@torch.no_grad()
def evaluate(net: CodecNet, frames: Sequence[npt.NDArray[np.uint8]]) -> list[dict[str, float]]:
    """Mean bits per pixel, PSNR and MS-SSIM at each level; pictures uint8 [H, W, 3] are cut to whole strides.

    Real coding adds about 1 % to these bits.
    """
    net = net.eval()
    layers = torch.full((1, 1, 1, 1), len(GROUPS))
    rows: dict[int, list[tuple[float, float, float]]] = {level: [] for level in EVALUATED_LEVELS}
    for frame in frames:
        height, width = (side // STRIDE * STRIDE for side in frame.shape[:2])
        frame = frame[:height, :width]
        latent = net.encoder(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255)
        for level in EVALUATED_LEVELS:
            quality = torch.full((1, 1, 1, 1), level / LEVELS)
            gain, inverse = net.gains(quality)
            values, mean, scale = net.context(latent * gain, quality * LEVELS, layers)
            bits = symbol_bits((latent * gain - mean).round(), scale).sum().item()
            picture = net.decoder(values * inverse, quality)[0].permute(1, 2, 0)
            drawn = (picture.clamp(0, 1) * 255).round().byte().numpy()
            rows[level].append((bits / (height * width), psnr(frame, drawn), ms_ssim(frame, drawn)))
    names = ("bpp", "psnr", "ms_ssim")
    return [dict(zip(names, np.mean(rows[level], 0).tolist(), strict=True)) for level in EVALUATED_LEVELS]


def bd_rates(old: CodecNet, new: CodecNet, frames: Sequence[npt.NDArray[np.uint8]]) -> dict[str, float | None]:
    """BD-rate (%) of a codec against an `old` one on pictures, by PSNR and MS-SSIM; None where no quality is shared."""
    before, after = evaluate(old, frames), evaluate(new, frames)

    def rate(quality: Callable[[dict[str, float]], float]) -> float | None:
        old_curve, new_curve = ([(point["bpp"], quality(point)) for point in points] for points in (before, after))
        found = bd_rate(old_curve, new_curve)
        return None if found is None else round(found.percent, 2)

    return {
        "bd_rate_psnr_percent": rate(lambda point: point["psnr"]),
        "bd_rate_ms_ssim_percent": rate(lambda point: ms_ssim_db(point["ms_ssim"])),
    }

"""How good a decoded picture is: PSNR, MS-SSIM and GMSD of a pair, and BD-rate of two curves.

All pictures are uint8 [H, W, 3], RGB, those of a pair of one size: FrameError for anything else. Only numpy is needed,
so a board can measure what it sends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import FrameError

Frame = NDArray[np.uint8]
_Plane = NDArray[np.float32]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli, Bovik 2003, finest scale first
_TAPS = 11
_GAUSS = np.exp(-((np.arange(_TAPS) - _TAPS // 2) ** 2) / (2 * 1.5**2))
_GAUSS = (_GAUSS / _GAUSS.sum()).astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_GMSD_C, _LEAST_SIDE = np.float32(170), 6
_C1, _C2 = np.float32((0.01 * 255) ** 2), np.float32((0.03 * 255) ** 2)


def psnr(original: Frame, decoded: Frame) -> float:
    """Peak signal-to-noise ratio over all three channels, in dB; infinite for equal pictures."""
    _check_pair(original, decoded)
    difference = original.astype(np.int32) - decoded
    error = float(np.mean(np.square(difference), dtype=np.float64))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ms_ssim(original: Frame, decoded: Frame) -> float:
    """Multi-scale structural similarity, 0 to 1: the mean of that of R, G and B, the numbers of pytorch-msssim.

    Five scales need sides of at least 161 pixels. A smaller picture is measured on the finest scales that fit, with
    their weights scaled up to the same sum (see `ms_ssim_scales`): do not compare its value with a larger one's.
    """
    _check_pair(original, decoded)
    scales = ms_ssim_scales(*original.shape[:2])
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) * (sum(MS_SSIM_WEIGHTS) / sum(MS_SSIM_WEIGHTS[:scales]))
    total = 0.0
    for channel in range(3):  # one plane at a time stays in the cache
        a = original[..., channel].astype(np.float32)
        b = decoded[..., channel].astype(np.float32)
        product = 1.0
        for scale in range(scales):
            if scale:
                a, b = _halve(a), _halve(b)
            contrast, similarity = _ssim(a, b)
            product *= max(similarity if scale == scales - 1 else contrast, 0.0) ** weights[scale]
        total += product
    return total / 3


def gmsd(original: Frame, decoded: Frame) -> float:
    """Gradient magnitude similarity deviation (Xue, Zhang, Mou, Bovik 2014): 0 for equal pictures, 0.35 for ruins.

    How unevenly edges were damaged over the picture, of luma at half the size. Sides of at least 6 pixels.
    """
    _check_pair(original, decoded)
    if min(original.shape[:2]) < _LEAST_SIDE:
        raise FrameError(f"GMSD needs sides of at least {_LEAST_SIDE} pixels, got {original.shape[1::-1]}")
    a, b = (_gradient(_halve(picture.astype(np.float32) @ _LUMA)) for picture in (original, decoded))
    return float(np.std((2 * np.sqrt(a * b) + _GMSD_C) / (a + b + _GMSD_C), dtype=np.float64))


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five scales `ms_ssim` uses at this size: the window must fit into the coarsest."""
    scales = sum(min(height, width) > (_TAPS - 1) << scale for scale in range(len(MS_SSIM_WEIGHTS)))
    if not scales:
        raise FrameError(f"MS-SSIM needs sides of at least {_TAPS} pixels, got {width}x{height}")
    return scales


@dataclass(frozen=True)
class BdRate:
    """Bytes that the tested codec spends at equal quality, against an anchor."""

    percent: float
    """-20.0: a fifth fewer bytes than the anchor, on average over the interval below."""
    low: float
    """Quality, in the curves' unit, from which both were compared."""
    high: float
    """Quality up to which both were compared."""
    covered: float
    """Share of the tested codec's quality interval that the anchor reaches too, 0 to 1."""


def bd_rate(
    anchor: Sequence[tuple[float, float]],
    tested: Sequence[tuple[float, float]],
    bpp: tuple[float, float] = (0.0, math.inf),
) -> BdRate | None:
    """Bjøntegaard's rate difference of two curves of (bpp, quality), or None where they share no quality.

    Compared are the qualities that `tested` reaches at rates within `bpp`, and that the anchor reaches at any rate.
    log(rate) is interpolated over quality by a monotone piecewise cubic. Points that cost more than another and
    give less are left out (nobody would use such a setting). Give MS-SSIM in dB, see `ms_ssim_db`.
    """
    anchor, tested = pareto(anchor), pareto(tested)
    if len(anchor) < 2 or len(tested) < 2:
        return None
    rate = np.log([point[0] for point in tested])
    quality = np.array([point[1] for point in tested])
    ends = np.clip(np.log([max(bpp[0], 1e-9), min(bpp[1], 1e9)]), rate[0], rate[-1])
    wanted_low, wanted_high = pchip(rate, quality, ends)
    anchor_quality = np.array([point[1] for point in anchor])
    low, high = max(wanted_low, anchor_quality[0]), min(wanted_high, anchor_quality[-1])
    if high <= low:
        return None
    at = np.linspace(low, high, 513)
    difference = pchip(quality, rate, at) - pchip(anchor_quality, np.log([point[0] for point in anchor]), at)
    mean = float((difference[0] / 2 + difference[1:-1].sum() + difference[-1] / 2) / (len(at) - 1))
    covered = float((high - low) / (wanted_high - wanted_low))
    return BdRate(percent=100 * math.expm1(mean), low=float(low), high=float(high), covered=covered)


def ms_ssim_db(value: float) -> float:
    """MS-SSIM as -10 log10(1 - value): steps that look alike are then about equally wide."""
    return -10 * math.log10(max(1 - value, 1e-9))


def gmsd_db(value: float) -> float:
    """GMSD as -20 log10(value), which rises with quality: steps that look alike are then about equally wide."""
    return -20 * math.log10(max(value, 1e-9))


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (bpp, quality) points that no cheaper point equals or beats: both rise strictly."""
    front: list[tuple[float, float]] = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or (rate > front[-1][0] and quality > front[-1][1]):
            front.append((rate, quality))
    return front


def pchip(x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at `at` of the monotone piecewise cubic through (x, y), x rising (Fritsch and Butland's slopes)."""
    width, rise = np.diff(x), np.diff(y) / np.diff(x)
    slope = np.empty(len(x))
    slope[[0, -1]] = rise[[0, -1]]
    if len(x) > 2:
        left, right = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
        same = rise[:-1] * rise[1:] > 0
        weighted = np.where(same, left * rise[1:] + right * rise[:-1], 1.0)
        slope[1:-1] = np.where(same, (left + right) * rise[:-1] * rise[1:] / weighted, 0.0)
        slope[0] = _end_slope(width[0], width[1], rise[0], rise[1])
        slope[-1] = _end_slope(width[-1], width[-2], rise[-1], rise[-2])
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(width) - 1)
    t = (at - x[k]) / width[k]
    start = y[k] + t * width[k] * slope[k] * (1 - t) ** 2 + (3 - 2 * t) * t**2 * (y[k + 1] - y[k])
    return np.asarray(start + t**2 * (t - 1) * width[k] * slope[k + 1], dtype=np.float64)


def _end_slope(near: float, far: float, near_rise: float, far_rise: float) -> float:
    """Three-point slope at an end, held back where it would overshoot."""
    slope = ((2 * near + far) * near_rise - near * far_rise) / (near + far)
    if slope * near_rise <= 0:
        return 0.0
    if near_rise * far_rise <= 0 and abs(slope) > abs(3 * near_rise):
        return 3 * near_rise
    return slope


def _ssim(a: _Plane, b: _Plane) -> tuple[float, float]:
    """Mean contrast-and-structure term, and mean SSIM, of two planes."""
    mean_a, mean_b = _blur(a), _blur(b)
    cross = mean_a * mean_b
    squares = mean_a * mean_a + mean_b * mean_b
    contrast = (2 * (_blur(a * b) - cross) + _C2) / (_blur(a * a + b * b) - squares + _C2)
    similarity = contrast * (2 * cross + _C1) / (squares + _C1)
    return float(contrast.mean(dtype=np.float64)), float(similarity.mean(dtype=np.float64))


def _blur(x: _Plane) -> _Plane:
    """The plane under the Gaussian window, where the window fits whole."""
    for _ in range(2):  # along the rows' axis, turned, and once more: reading along rows is the fast way
        height = x.shape[0] - _TAPS + 1
        out = x[_TAPS // 2 : _TAPS // 2 + height] * _GAUSS[_TAPS // 2]
        for tap in range(_TAPS // 2):
            mirrored = _TAPS - 1 - tap
            out += (x[tap : tap + height] + x[mirrored : mirrored + height]) * _GAUSS[tap]
        x = np.ascontiguousarray(out.T)
    return x


def _halve(x: _Plane) -> _Plane:
    """Means of 2x2; an odd side gets a zero before it, as pytorch-msssim's padding does."""
    height, width = x.shape
    if height % 2 or width % 2:
        x = np.pad(x, ((height % 2, 0), (width % 2, 0)))
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) * np.float32(0.25)


def _gradient(x: _Plane) -> _Plane:
    """Squared magnitude of the gradient by Prewitt's filters over 3, where they fit whole."""
    across, down = x[:, 2:] - x[:, :-2], x[2:] - x[:-2]
    along_x = (across[:-2] + across[1:-1] + across[2:]) / 3
    along_y = (down[:, :-2] + down[:, 1:-1] + down[:, 2:]) / 3
    return np.asarray(along_x * along_x + along_y * along_y, np.float32)


def _check_pair(original: Frame, decoded: Frame) -> None:
    for name, picture in (("original", original), ("decoded", decoded)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise FrameError(f"the {name} picture must be uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
    if original.shape != decoded.shape:
        raise FrameError(f"pictures of one size are needed, got {original.shape} and {decoded.shape}")

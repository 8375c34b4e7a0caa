"""SSIMULACRA2, the measure of Sneyers (2022), version 2.1, in numpy.

    sRGB -> light -> half size, scale after scale -> X, Y, B-Y -> blur -> three maps of error -> norms -> score

The maps: structure that differs (SSIM), edges that were added (ringing), edges that were lost (blur). Of each, for
three planes at six scales, a mean and a fourth norm: 108 figures, whose weighted sum is brought to a scale of 100.

Borders and the Gaussian are those of the reference program (libjxl, tools/ssimulacra2.cc and tools/gauss_blur.cc):
zeros beyond the border in both directions, and the sum of three cosines in place of the Gaussian. So a picture that is
turned has the same score. `export.training.ssimulacra2` is this measure as a loss, with the same constants.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import FrameError

_Planes = NDArray[np.float64]

_SCALES = 6
_SMALLEST = 8  # a scale is made of the one before while that has so many pixels on both sides
_SIGMA = 1.5
C2 = 0.0009
ABSORBANCE = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ]
)
POWER = 0.6276336467831387
BIAS = 0.0037930732552754493  # of the cones' answer to light, ISO/IEC 18181-1
SSIM, RINGING, BLUR = range(3)
"""The maps of error."""
# place in the list of 108 -> weight; the others are 0. The list is by plane, scale, norm (mean, fourth) and map.
WEIGHTS = {
    1: 0.0007376606707406586, 4: 0.0007793481682867309, 7: 0.0004371155730107379, 9: 1.1041726426657346,
    10: 0.00066284834129271, 11: 0.00015231632783718752, 13: 0.0016406437456599754, 15: 1.8422455520539298,
    16: 11.441172603757666, 18: 0.0007989109436015163, 19: 0.000176816438078653, 21: 1.8787594979546387,
    22: 10.94906990605142, 24: 0.0007289346991508072, 25: 0.9677937080626833, 27: 0.00014003424285435884,
    28: 0.9981766977854967, 29: 0.00031949755934435053, 30: 0.0004550992113792063, 33: 0.0013648766163243398,
    39: 7.466890328078848, 41: 17.445833984131262, 42: 0.0006235601634041466, 45: 6.683678146179332,
    46: 0.00037724407979611296, 47: 1.027889937768264, 48: 225.20515300849274, 51: 19.213238186143016,
    52: 0.0011401524586618361, 53: 0.001237755635509985, 54: 176.39317598450694, 57: 24.43300999870476,
    58: 0.28520802612117757, 59: 0.0004485436923833408, 63: 34.77906344483772, 64: 44.835625328877896,
    73: 0.0008680556573291698, 79: 0.0005313191874358747, 81: 0.00016533814161379112, 87: 0.0004179171803251336,
    88: 0.0017290828234722833, 90: 0.0020827005846636437, 93: 8.826982764996862, 94: 23.19243343998926,
    96: 95.1080498811086, 97: 0.9863978034400682, 98: 0.9834382792465353, 99: 0.0012286405048278493,
    100: 171.2667255897307, 101: 0.9807858872435379, 105: 0.0005130064588990679, 107: 0.00010854057858411537,
}  # fmt: skip


def ssimulacra2(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """Score of a picture: 100 is equal, 90 not to be told apart, 70 good, 50 medium, 30 low, below 0 very bad.

    Both uint8 [H, W, 3], sRGB, of one size, sides of at least 8. Raises FrameError for anything else. Takes half a
    second for a 768x512 picture.
    """
    for frame in (original, decoded):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or min(frame.shape[:2]) < _SMALLEST:
            raise FrameError(f"SSIMULACRA2 takes uint8 [H, W, 3] of 8 pixels a side or more, got {frame.shape}")
    if original.shape != decoded.shape:
        raise FrameError(f"two pictures of one size are compared, got {original.shape} and {decoded.shape}")
    light = [_light(frame) for frame in (original, decoded)]
    figures: list[NDArray[np.float64]] = []
    for scale in range(_SCALES):
        if min(light[0].shape[1:]) < _SMALLEST:
            break
        if scale:
            light = [_halved(planes) for planes in light]
        figures.append(_figures(*map(_xyb, light)))
    # By plane, scale, norm and map. With fewer scales the places move up, as they do in the reference.
    listed = np.stack(figures, 1).ravel()
    return _score(sum(weight * listed[place] for place, weight in WEIGHTS.items() if place < len(listed)))


def _score(error: float) -> float:
    error = on_scale(error)
    return float(100 - 10 * error**POWER) if error > 0 else 100.0


def on_scale(error: Any) -> Any:
    """The weighted sum of the figures, a number or a tensor, so that 100 less 10 times its `POWER` is the score."""
    error = 0.9562382616834844 * error
    return 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3


def _light(frame: NDArray[np.uint8]) -> _Planes:
    """Linear light, 0..1, [3, H, W], of sRGB values (IEC 61966-2-1)."""
    x = np.arange(256) / 255
    table = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return np.ascontiguousarray(table[frame].transpose(2, 0, 1))


def _halved(planes: _Planes) -> _Planes:
    """Means of 2x2 pixels; an odd last row or column is taken twice."""
    even = np.pad(planes, ((0, 0), (0, planes.shape[1] % 2), (0, planes.shape[2] % 2)), "edge")
    rows = even[:, ::2] + even[:, 1::2]
    return np.asarray((rows[..., ::2] + rows[..., 1::2]) * 0.25)


def _xyb(light: _Planes) -> _Planes:
    """X, Y and B-Y, each brought to about 0..1."""
    cones = np.tensordot(ABSORBANCE, light, 1) + BIAS
    left, middle, short = np.cbrt(cones) - np.cbrt(BIAS)
    x, y = (left - middle) / 2, (left + middle) / 2
    return np.stack([x * 14 + 0.42, y + 0.01, short - y + 0.55])


def _figures(a: _Planes, b: _Planes) -> NDArray[np.float64]:
    """Mean and fourth norm of the three maps of error, float64 [3 planes, 2 norms, 3 maps], of XYB planes."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    square_a, square_b, cross = _blurred(a * a), _blurred(b * b), _blurred(a * b)
    shape = (2 * (cross - mean_a * mean_b) + C2) / ((square_a - mean_a**2) + (square_b - mean_b**2) + C2)
    edges = (1 + np.abs(b - mean_b)) / (1 + np.abs(a - mean_a)) - 1
    maps = {
        SSIM: np.maximum(1 - (1 - (mean_a - mean_b) ** 2) * shape, 0),
        RINGING: np.maximum(edges, 0),
        BLUR: np.maximum(-edges, 0),
    }
    found = np.empty((len(a), 2, len(maps)))
    for kind, one in maps.items():
        squares = one * one
        found[:, 0, kind] = one.mean((1, 2))
        found[:, 1, kind] = (squares * squares).mean((1, 2)) ** 0.25
    return found


def _blurred(planes: _Planes) -> _Planes:
    """Planes [3, H, W] filtered in both directions, zeros beyond the border."""
    taps = _taps()
    reach = len(taps) // 2
    for axis in (1, 2):
        wide = np.pad(planes, [(0, 0)] + [(reach, reach) if place == axis else (0, 0) for place in (1, 2)])
        pieces = [np.take(wide, range(at, at + planes.shape[axis]), axis) for at in range(len(taps))]
        planes = pieces[reach] * taps[reach]
        for away in range(1, reach + 1):  # by pairs, so that a mirrored picture gives the same sums
            planes += (pieces[reach - away] + pieces[reach + away]) * taps[reach + away]
    return planes


@cache
def _taps() -> NDArray[np.float64]:
    """Nine taps: the Gaussian of sigma 1.5 as the sum of three cosines.

    Charalampidis, Recursive Implementation of the Gaussian Filter Using Truncated Cosine Functions, 2016; the numbers
    of his equations stand behind the lines. The reference program computes the same filter by recursion.
    """
    radius = round(3.2795 * _SIGMA + 0.2546)  # (57)
    omega = np.array([1, 3, 5]) * np.pi / (2 * radius)
    sign = np.array([1, -1, 1])
    p = sign / np.tan(omega / 2)  # (37)
    r = sign * p**2 / np.sin(omega)  # (44)
    rho = np.exp(-0.5 * (_SIGMA * omega) ** 2) / radius  # (50)
    d13, d35, d51 = (p[i] * r[j] - r[i] * p[j] for i, j in ((0, 1), (1, 2), (2, 0)))
    zeta = np.array([d35 / d13, d51 / d13, 1.0])  # (52)
    gamma = np.array([1.0, radius**2 - _SIGMA**2, float(zeta @ rho)])  # (55)
    beta = np.linalg.solve(np.stack([p, r, zeta]), gamma)  # (53), (56)
    at = np.arange(1 - radius, radius)
    return np.asarray(beta @ np.cos(omega[:, None] * at))

"""Picture measures agree with the published ones, and BD-rate with what is known of made-up curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgesem.errors import FrameError
from edgesem.quality.metrics import bd_rate, gmsd, ms_ssim, ms_ssim_db, ms_ssim_scales, pareto, pchip, psnr
from edgesem.quality.ssimulacra2 import ssimulacra2

CURVE = [(0.03, 21.0), (0.06, 23.5), (0.1, 25.0), (0.2, 27.5), (0.4, 30.5)]


def pattern(height, width):
    """A picture of integers only, so that every machine makes the same."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * x // 40 + y) % 256, (x * y // 50 + 2 * x) % 256, (3 * y + x * x // 90) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def coarse(picture, step):
    return (picture // step * step + step // 2).astype(np.uint8)


def test_psnr_of_one_step_everywhere_is_48_db():
    dark = np.full((20, 30, 3), 100, np.uint8)
    assert psnr(dark, dark + np.uint8(1)) == pytest.approx(20 * math.log10(255))


def test_equal_pictures_are_perfect():
    picture = pattern(170, 180)
    assert psnr(picture, picture) == math.inf
    assert ms_ssim(picture, picture) == pytest.approx(1, abs=1e-6)


def test_gmsd_is_what_its_authors_define():
    """Their formula in float64, on luma of half the size."""
    a, b = pattern(24, 30), coarse(pattern(24, 30), 48)

    def gradients(picture):
        luma = picture.astype(float) @ [0.299, 0.587, 0.114]
        luma = luma.reshape(12, 2, 15, 2).mean((1, 3))
        prewitt = np.array([[1, 0, -1]] * 3) / 3
        windows = np.lib.stride_tricks.sliding_window_view(luma, (3, 3))
        return np.hypot((windows * prewitt).sum((2, 3)), (windows * prewitt.T).sum((2, 3)))

    one, other = gradients(a), gradients(b)
    expected = ((2 * one * other + 170) / (one**2 + other**2 + 170)).std()
    assert gmsd(a, b) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.05
    assert gmsd(a, a) == pytest.approx(0, abs=1e-6)
    with pytest.raises(FrameError, match="6 pixels"):
        gmsd(a[:5], b[:5])


# What pytorch-msssim 1.0.0 gives in float64 with its defaults: ms_ssim(a, b, data_range=255)
@pytest.mark.parametrize(
    ("size", "step", "published"),
    [
        ((192, 256), 16, 0.9895290683),
        ((192, 256), 64, 0.8720221157),
        ((192, 256), 128, 0.7018331007),
        ((187, 331), 16, 0.9915656615),
        ((187, 331), 64, 0.8904106541),
        ((187, 331), 128, 0.7276532933),
    ],
)
def test_ms_ssim_is_that_of_pytorch_msssim(size, step, published):
    picture = pattern(*size)
    assert ms_ssim(picture, coarse(picture, step)) == pytest.approx(published, abs=5e-6)


def test_ms_ssim_of_a_negative_is_zero_and_not_an_error():
    picture = pattern(192, 192)
    assert ms_ssim(picture, 255 - picture) == 0


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (20, 1), (21, 2), (160, 4), (161, 5), (4096, 5)])
def test_small_pictures_are_measured_on_the_scales_that_fit(side, scales):
    assert ms_ssim_scales(side, 5000) == ms_ssim_scales(5000, side) == scales


def test_a_small_picture_keeps_the_order_of_better_and_worse():
    picture = pattern(48, 64)
    values = [ms_ssim(picture, coarse(picture, step)) for step in (1, 16, 64, 128)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(1, abs=1e-6)


def test_pictures_that_no_window_fits_are_refused():
    picture = pattern(10, 64)
    with pytest.raises(FrameError, match="at least 11"):
        ms_ssim(picture, picture)


@pytest.mark.parametrize("measure", [psnr, ms_ssim, ssimulacra2])
@pytest.mark.parametrize(
    "other",
    [pattern(20, 31), pattern(20, 30)[..., 0], pattern(20, 30).astype(np.float32)],
    ids=["size", "grey", "float"],
)
def test_pairs_that_cannot_be_compared_are_refused(measure, other):
    with pytest.raises(FrameError):
        measure(pattern(20, 30), other)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3])
def test_bd_rate_is_the_factor_by_which_every_file_shrank(factor):
    found = bd_rate(CURVE, [(factor * rate, value) for rate, value in CURVE])
    assert found is not None
    assert found.percent == pytest.approx(100 * (factor - 1))
    assert (found.low, found.high, found.covered) == (21.0, 30.5, 1.0)


def test_bd_rate_looks_only_at_what_the_tested_codec_gives_in_the_range():
    # 10 % smaller up to .1 bpp, twice as large above
    tested = [(0.9 * rate if rate <= 0.1 else 2 * rate, value) for rate, value in CURVE]
    low = bd_rate(CURVE, tested, (0.027, 0.09))
    assert low is not None
    assert low.percent == pytest.approx(-10, abs=0.6)  # the cubic feels the next point
    assert low.high == pytest.approx(25.0)


def test_bd_rate_says_how_much_of_the_range_the_anchor_reaches():
    found = bd_rate([point for point in CURVE if point[1] >= 25], CURVE, (0.03, 0.2))
    assert found is not None
    assert found.percent == pytest.approx(0, abs=1.5)  # the curves differ a little at the anchor's end
    assert found.covered == pytest.approx((27.5 - 25) / (27.5 - 21))


def test_bd_rate_of_curves_that_share_no_quality_is_none():
    assert bd_rate(CURVE, [(rate, value + 20) for rate, value in CURVE]) is None
    assert bd_rate(CURVE, CURVE[:1]) is None
    assert bd_rate(CURVE, CURVE, (0.5, 0.9)) is None


def test_settings_that_cost_more_and_give_less_are_left_out():
    assert pareto([(0.2, 27.0), (0.1, 25.0), (0.15, 24.0), (0.2, 26.0), (0.3, 27.0)]) == [(0.1, 25.0), (0.2, 27.0)]


def test_the_interpolation_is_exact_on_lines_and_never_overshoots():
    x = np.array([0.0, 1.0, 3.0, 4.0])
    at = np.linspace(0, 4, 81)
    np.testing.assert_allclose(pchip(x, 2 * x - 1, at), 2 * at - 1)
    steps = pchip(x, np.array([0.0, 0.0, 1.0, 1.0]), at)
    assert steps.min() >= 0
    assert steps.max() <= 1
    assert (np.diff(steps) >= 0).all()


def test_the_interpolation_is_scipys_pchip():
    interpolate = pytest.importorskip("scipy.interpolate", reason="scipy comes with edgesem[bench] only")
    random = np.random.default_rng(1)
    for count in (2, 3, 4, 9):
        x, y = np.sort(random.random(count)), random.random(count)
        at = np.linspace(x[0], x[-1], 50)
        np.testing.assert_allclose(pchip(x, y, at), interpolate.PchipInterpolator(x, y)(at), atol=1e-12)


def test_ms_ssim_in_db_gives_ten_for_nine_tenths():
    assert ms_ssim_db(0.9) == pytest.approx(10)
    assert ms_ssim_db(1.0) == 90

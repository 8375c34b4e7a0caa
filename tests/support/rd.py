"""A picture, and made points of the rate-distortion bench."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from export.bench.rd.points import Coding, Point, Quality

needs_bench = pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'edgesem[bench]'")


def photo(height=99, width=131):
    """A smooth picture with a few edges."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 90 * np.sin(x / 17 + y / 29), 128 + 70 * np.cos(x / 11), 40 + 120 * (x + y > 110)]
    return np.stack(planes, -1).astype(np.uint8)


def point(codec="edgesem", setting=0.5, size_bytes=100, run="monday", **quality):
    values = {"psnr": 30.0, "ms_ssim": 0.9, "ssimulacra2": 50.0, "gmsd": 0.1} | quality
    coding = Coding(size_bytes, 0.02, 0.03, 0.019, 0.029, "pixels", run)
    return Point("a.png", "digest", 8000, codec, setting, "1", coding, Quality(**values))


def curve(name, factor, bpps, run="monday"):
    """Points of a codec that spends `factor` times the bytes for the same quality."""
    points = []
    for bpp in bpps:
        gain = np.log2(bpp / factor / 0.02)
        quality = {
            "psnr": 20 + 2.5 * gain,
            "ms_ssim": float(1 - 0.3 * 0.6**gain),
            "ssimulacra2": -50 + 25 * gain,
            "gmsd": float(0.3 * 0.8**gain),
        }
        made = point(name, bpp, run=run, **quality)
        points.append(replace(made, pixels=10**6, coding=replace(made.coding, bytes=round(bpp * 10**6 / 8))))
    return points

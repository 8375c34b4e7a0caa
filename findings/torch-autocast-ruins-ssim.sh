#!/usr/bin/env bash
# Finding: under autocast a hand-written SSIM of float32 pictures has a gradient that has little to do with the real one.
# Version: torch 2.13.0, numpy 2.4.6. The torch wheel is large: 200 MB for CPUs, several GB with what PyPI's needs for CUDA.
# Expected: pictures, window and pixels' gradient are float32, so the loss is computed in float32, as F.mse_loss is under
#   autocast. Or a warning.
# Seen: matrix products and convolutions take float32 inputs down to bfloat16 (8 bits of mantissa). A variance is the small
#   difference E[x^2] - E[x]^2 of two blurred pictures and is mostly rounding then. The gradient of 1 - SSIM has a cosine of
#   0.38 with the real one and is 3.6 times as long, the value is below 0. It is still float32, finite, and no warning
#   comes. With a window of F.avg_pool2d, which autocast leaves alone, or with autocast switched off inside the loss, all
#   is right.
# Meaning: a codec that is trained with mixed precision and MS-SSIM follows noise, and learns, but less than it could. Put
#   `with torch.autocast(device, enabled=False)` around every loss that takes differences of means.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import warnings
import numpy as np
import torch
from torch.nn import functional as F

warnings.simplefilter("error")
SIDE, SIZE = 256, 11
rng = np.random.default_rng(1)
y, x = np.mgrid[0:1:SIDE * 1j, 0:1:SIDE * 1j]
scene = 0.5 + 0.2 * np.sin(3 * y) + 0.15 * np.cos(4 * x) + rng.normal(0, 0.03, (SIDE, SIDE))
picture = torch.tensor(scene, dtype=torch.float32).clamp(0, 1)[None, None]
coded = (picture + torch.tensor(rng.normal(0, 0.02, (SIDE, SIDE)), dtype=torch.float32)).clamp(0, 1)
taps = torch.exp(-((torch.arange(SIZE) - SIZE // 2) ** 2) / 4.5)
taps = taps / taps.sum()
band = torch.stack([F.pad(taps, (row, SIDE - SIZE - row)) for row in range(SIDE - SIZE + 1)])

windows = {
    "matrix products": lambda planes: band @ planes @ band.T,
    "conv2d": lambda planes: F.conv2d(planes, torch.outer(taps, taps)[None, None]),
    "avg_pool2d": lambda planes: F.avg_pool2d(planes, SIZE, 1),
}

def dissimilarity(a, b, blur):
    mean_a, mean_b, aa, bb, ab = map(blur, (a, b, a * a, b * b, a * b))
    light = (2 * mean_a * mean_b + 1e-4) / (mean_a ** 2 + mean_b ** 2 + 1e-4)
    shape = (2 * (ab - mean_a * mean_b) + 9e-4) / (aa - mean_a ** 2 + bb - mean_b ** 2 + 9e-4)
    return 1 - (light * shape).mean()

def gradient(blur, outside, inside):
    pixels = coded.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss = dissimilarity(pixels, picture, blur)
    loss.backward()
    assert pixels.grad.dtype == torch.float32 and pixels.grad.isfinite().all()
    return loss.item(), pixels.grad.flatten()

cosines = {}
for name, blur in windows.items():
    real, wanted = gradient(blur, False, False)
    value, found = gradient(blur, True, True)
    cured = gradient(blur, True, False)
    cosines[name] = F.cosine_similarity(wanted, found, 0).item()
    print(f"{name:15} 1 - SSIM: {real:.4f} in float32, {value:.4f} under autocast; their gradients have a cosine of "
          f"{cosines[name]:.3f}, lengths 1 to {(found.norm() / wanted.norm()).item():.2f}")
    assert cured[0] == real and torch.equal(cured[1], wanted), "the cure has another result"
assert max(cosines["matrix products"], cosines["conv2d"]) < 0.9, "the gradient under autocast is better now"
assert cosines["avg_pool2d"] > 0.999
EOF

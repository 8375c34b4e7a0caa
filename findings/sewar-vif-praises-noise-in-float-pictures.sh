#!/usr/bin/env bash
# Finding: VIF of sewar calls a picture drowned in noise better than the original, if both are given as floats from 0 to 1.
# Version: sewar 0.4.10, numpy 2.4.6.
# Expected: the measure depends on the pictures, not on how they are stored: psnr and ssim of the same package do not change
#   when 8 bits become floats from 0 to 1, for they take the range from the number type.
# Seen: the model of VIF has an eye with a noise variance of 2, which means grey levels of 255. For floats from 0 to 1 that
#   variance becomes 65025 times as strong, so all texture counts as invisible and noise as added contrast. Noise of 12 levels
#   has 0.27 in 8 bits and 1.01 as float, of 40 levels 0.10 and 1.06: the order is turned round. Blur rises from 0.40 to 0.51.
#   Floats from 0 to 255 are right, but psnr and ssim then are not: no one form of a float picture serves all three.
# Meaning: networks give floats from 0 to 1. A study that measures their output so ranks the worst codec first, by values
#   (1.0 is "equal to the original") that look plausible. Give 8 bits to all measures of the package, or sigma_nsq=2/255**2
#   with floats from 0 to 1.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check sewar==0.4.10 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import warnings
import numpy as np
from sewar import psnr, ssim, vifp

warnings.simplefilter("error")
rng = np.random.default_rng(1)
y, x = np.mgrid[0:256, 0:256]

def bytes_of(values):
    return values.round().clip(0, 255).astype(np.uint8)

picture = bytes_of(127 + 60 * np.sin(x / 19) * np.cos(y / 17) + rng.normal(0, 6, (256, 256)))
neighbours = [np.roll(picture.astype(float), (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
pairs = {"noise of 12 levels": bytes_of(picture + rng.normal(0, 12, picture.shape)),
         "noise of 40 levels": bytes_of(picture + rng.normal(0, 40, picture.shape)),
         "blur": bytes_of(np.mean(neighbours, 0))}
vif = {}
for name, other in pairs.items():
    unit = picture / 255, other / 255
    vif[name] = vifp(picture, other), vifp(*unit)
    print(f"{name:18} VIF {vif[name][0]:.2f} in 8 bits, {vif[name][1]:.2f} as float from 0 to 1; PSNR "
          f"{psnr(picture, other):.1f} and {psnr(*unit):.1f} dB, SSIM {ssim(picture, other)[0]:.3f} and {ssim(*unit)[0]:.3f}")
    assert np.isclose(psnr(picture, other), psnr(*unit)) and np.isclose(ssim(picture, other)[0], ssim(*unit)[0])
    assert np.isclose(vifp(*unit, sigma_nsq=2 / 255 ** 2), vif[name][0], rtol=1e-3), "the cure fails"
    assert np.isclose(vifp(picture.astype(float), other.astype(float)), vif[name][0])
assert np.isclose(vifp(picture / 255, picture / 255), 1) and np.isclose(vifp(picture, picture), 1)

weak, strong, blur = vif.values()
assert strong[0] < weak[0] < blur[0] < 0.6, "VIF of 8-bit pictures has changed"
assert strong[1] > weak[1] > 1 > blur[1] > blur[0], "VIF of float pictures has changed"
wide = picture.astype(float), pairs["noise of 12 levels"].astype(float)
print(f"floats from 0 to 255: PSNR {psnr(*wide):.1f} dB, SSIM {ssim(*wide)[0]:.3f}")
assert psnr(*wide) < 0 and ssim(*wide)[0] < ssim(picture, pairs["noise of 12 levels"])[0] - 0.05
EOF

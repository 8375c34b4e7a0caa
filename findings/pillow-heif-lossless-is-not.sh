#!/usr/bin/env bash
# Finding: a HEIF that pillow-heif saves as lossless, as its manual says, differs from the picture in three of four pixels; of a
#   16-bit thermal picture with 427 values 8 are left.
# Version: pillow-heif 1.8.1 (x265 inside), Pillow 13.0.0, numpy 2.4.6.
# Expected: the manual: "-1 for lossless quality", "also for lossless encoding you should specify chroma=444".
# Seen: with quality=-1 alone the colours have half the resolution, up to 51 of 255 off. With chroma=444 the picture is still turned
#   into YCbCr of 8 bits, which rounds: 76 % of the pixels are off by one, and the noise of the rounding is coded without loss. With
#   matrix_coefficients=0 as well (coded as red, green and blue) all is exact; a smooth picture then has 4.5 KB in place of 36.
#   Grey of 8 bits is exact. 16 bits are cut to 10, with quality=-1 too, and come back as mode I;16 in steps of 64, or with
#   SAVE_HDR_TO_12_BIT of 16.
# Meaning: a data set of "lossless" HEIFs does not compare equal to its source, and the difference has the size of a good codec's
#   error. A thermal camera's steps of 64 counts are several degrees, in a file that says it has 16 bits. For colour pass
#   quality=-1, chroma=444 and matrix_coefficients=0; for 16 bits use PNG or JPEG XL.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow-heif==1.8.1 pillow==13.0.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()
rng = np.random.default_rng(1)
y, x = np.mgrid[0:256, 0:256]
waves = np.sin(x / 19) * np.cos(y / 17)
grey = (127 + 60 * waves + rng.normal(0, 6, x.shape)).clip(0, 255).astype(np.uint8)
colour = np.stack([grey, np.roll(grey, 9, 0), 255 - grey], -1)
smooth = np.stack([x, y, 255 - x], -1).astype(np.uint8)
thermal = (8000 + 200 * waves + rng.normal(0, 6, x.shape)).astype(np.uint16)
MANUAL, EXACT = {"chroma": 444}, {"chroma": 444, "matrix_coefficients": 0}

def lossless(name, picture, **settings):
    """Bytes, largest error, part of the pixels that differ, and the picture that comes back."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "HEIF", quality=-1, **settings)
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        back = np.asarray(opened)
    off = abs(back.astype(int) - picture)
    part = np.mean(off.max(-1) > 0) if off.ndim == 3 else np.mean(off > 0)
    print(f"{name:8} {settings}: {len(file.getvalue()):6} bytes, {off.max():2} off, {100 * part:.0f} % of the pixels differ, "
          f"{len(np.unique(back))} of {len(np.unique(picture))} values")
    return len(file.getvalue()), off.max(), part, back

assert lossless("colour", colour)[1] > 40, "the colours are whole now"
for name, picture in (("colour", colour), ("smooth", smooth)):
    size, error, part, _ = lossless(name, picture, **MANUAL)
    exact_size, exact_error, _, _ = lossless(name, picture, **EXACT)
    assert error == 1 and 0.7 < part < 0.8, "chroma=444 is enough now"
    assert exact_error == 0, "the cure fails"
    assert name == "colour" or size > 6 * exact_size, "the sizes have changed"
assert lossless("grey", grey)[1] == 0

assert thermal.max() - thermal.min() > 400 and len(np.unique(thermal)) > 400
for twelve, step in ((False, 64), (True, 16)):
    pillow_heif.options.SAVE_HDR_TO_12_BIT = twelve
    _, error, _, back = lossless("thermal", thermal, **EXACT)
    assert back.dtype == np.uint16 and error == step - 1 and not (back % step).any(), "16 bits are kept otherwise now"
EOF

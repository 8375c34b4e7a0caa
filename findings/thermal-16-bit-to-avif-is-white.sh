#!/usr/bin/env bash
# Finding: a 16-bit thermal picture saved as AVIF or WebP is one white area, with no error and no warning.
# Versions: Pillow 13.0.0 (AVIF and WebP inside), pillow-jxl-plugin 1.3.8.
# Expected: a refusal, as Pillow's JPEG writer gives for this mode, or a scaling of the range to 8 bits.
# Seen: the writers turn mode I;16 into 8 bits by cutting each value at 255. Sensors of 14 bits give values of several
#   thousand, so each pixel becomes 255, even with lossless=True in WebP. JPEG refuses. PNG and JPEG XL keep all values.
# Meaning: a program that stores thermal frames "in the better format" loses all of them, and the small files look like
#   good compression. Scale to 8 bits yourself, or use JPEG XL or PNG for 16 bits.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 pillow-jxl-plugin==1.3.8 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import os
import warnings
import numpy as np
import pillow_jxl  # registers the format
from PIL import Image

warnings.simplefilter("error")
rng = np.random.default_rng(1)
kelvin = (29000 + 800 * np.hypot(*np.mgrid[-1:1:120j, -1:1:160j]) + rng.normal(0, 3, (120, 160))).astype(np.uint16)
frame = Image.fromarray(kelvin)
print("frame:", frame.mode, "values", kelvin.min(), "to", kelvin.max())

def stored(name, **options):
    try:
        frame.save(name, **options)
    except OSError as error:
        print(f"{name:8} refused: {error}")
        return None
    back = np.array(Image.open(name))
    print(f"{name:8} {options} {back.dtype}, values {back.min()} to {back.max()}, {os.path.getsize(name)} bytes")
    return back

assert frame.mode == "I;16"
avif, webp = stored("t.avif", quality=100), stored("t.webp", lossless=True)
jpeg, jxl, png = stored("t.jpg"), stored("t.jxl", lossless=True), stored("t.png")
assert avif.min() == avif.max() == 255, "AVIF keeps something now"
assert webp.min() == webp.max() == 255, "WebP keeps something now"
assert jpeg is None
assert np.array_equal(jxl, kelvin) and np.array_equal(png, kelvin)
EOF

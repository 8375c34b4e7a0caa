#!/usr/bin/env bash
# Finding: for a grey picture the quality that is asked of avif_encode has no effect: the file is always lossless.
# Version: imagecodecs 2026.3.6 (libavif 1.4.0), Pillow 13.0.0 to compare with.
# Expected: level=50 costs a grey picture somewhat less than the same picture in colour. AVIF has a form for grey (4:0:0),
#   and the library writes it.
# Seen: each level from 0 to 100 gives the same bytes, and the decoded picture equals the input. pixelformat has no effect
#   either. With the grey picture three times as red, green and blue the level works, and the file is 30 to 100 times smaller.
#   10-bit pictures behave in the same way. webp_encode, too, takes a level and stays lossless, until lossless=False is given.
# Meaning: an infra-red or thermal camera that codes at "level 50" sends 45 KB in place of 1 KB. Nothing looks wrong, as the
#   picture is perfect. Repeat grey three times, or code it with Pillow; measure bytes at two levels before you trust a knob.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check imagecodecs==2026.3.6 numpy==2.4.6 pillow==13.0.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import imagecodecs
import numpy as np
from PIL import Image

y, x = np.mgrid[0:1:240j, 0:1:320j]
noise = np.random.default_rng(1).normal(0, 5, y.shape)
grey = np.clip(127 + 90 * np.sin(9 * y) * np.cos(7 * x) + noise, 0, 255).astype(np.uint8)
colour = np.dstack([grey, grey, grey])
LEVELS = (10, 50, 80)

def sizes(name, picture, **options):
    """Bytes at each level, and the largest error of a pixel at the lowest."""
    encode, decode = getattr(imagecodecs, name + "_encode"), getattr(imagecodecs, name + "_decode")
    files = [encode(picture, level=level, **options) for level in LEVELS]
    error = int(np.abs(decode(files[0]).astype(int) - picture).max())
    found = [len(file) for file in files]
    print(f"{name} {picture.dtype!s:6} {picture.shape!s:13} {options!s:23} level {LEVELS}: {found} bytes, error {error}")
    return found, error

found, error = sizes("avif", grey)
assert len(set(found)) == 1 and error == 0, "the level works for grey now"
assert sizes("avif", grey, pixelformat="420") == (found, 0), "the pixel format works for grey now"
deep, error = sizes("avif", grey.astype(np.uint16) * 4, bitspersample=10)
assert len(set(deep)) == 1 and error == 0, "the level works for 10-bit grey now"
cured, error = sizes("avif", colour)
assert cured[0] < cured[1] < cured[2] and error > 0 and found[1] > 20 * cured[1]

webp, error = sizes("webp", colour)
assert error == 0 and min(webp) > 0.9 * max(webp), "the level of WebP works alone now"
lossy, error = sizes("webp", colour, lossless=False)
assert lossy[0] < lossy[1] < lossy[2] and error > 0

def pillow(quality):
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "AVIF", quality=quality)
    return len(file.getvalue())

peer = [pillow(quality) for quality in LEVELS]
print(f"Pillow, the same grey picture, quality {LEVELS}: {peer} bytes")
assert peer[0] < peer[1] < peer[2] < found[0]
EOF

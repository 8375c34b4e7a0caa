#!/usr/bin/env bash
# Finding: a JPEG that was opened and drawn on is saved as JPEG XL without the drawing.
# Versions: pillow-jxl-plugin 1.3.8 with Pillow 13.0.0.
# Expected: Image.save() writes the pixels that the Image object holds now, at the asked quality.
# Seen: if the Image came from a JPEG file, the plugin reads that file again by its name and repacks it without loss.
#   What was painted in place is absent, `quality` has no effect, and only a warning tells. With lossless_jpeg=False,
#   or for a copy of the image, the pixels in memory are saved.
# Meaning: time stamps, boxes or privacy masks that a camera program draws do not reach the stored picture, and the
#   quality knob does not change the bytes. Pass lossless_jpeg=False whenever the picture was edited.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 pillow-jxl-plugin==1.3.8 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import os
import warnings
import pillow_jxl  # registers the format
from PIL import Image, ImageDraw

warnings.simplefilter("ignore")
Image.linear_gradient("L").resize((320, 240)).convert("RGB").save("camera.jpg", quality=90)
picture = Image.open("camera.jpg")
ImageDraw.Draw(picture).rectangle((50, 50, 150, 150), fill=(255, 0, 0))
print("in memory, inside the box:", picture.getpixel((100, 100)))

def stored(image, **options):
    image.save("out.jxl", **options)
    pixel = Image.open("out.jxl").convert("RGB").getpixel((100, 100))
    print(f"{options!s:25} pixel {pixel!s:17} {os.path.getsize('out.jxl')} bytes")
    return pixel, os.path.getsize("out.jxl")

red = lambda p: p[0] > 240 and p[1] < 15 and p[2] < 15
default, low = stored(picture), stored(picture, quality=20)
explicit = stored(picture, lossless_jpeg=False)
copied = stored(picture.copy())
assert not red(default[0]) and not red(low[0]), "the edit is kept now"
assert default == low, "quality has an effect now"
assert red(explicit[0]) and red(copied[0])
EOF

#!/usr/bin/env bash
# Finding: the same picture as 8-bit and as 16-bit or float array becomes two JPEG XL files that show two brightnesses: only
#   the 8-bit one is labelled sRGB, the others "linear light", and at the same distance a dark one has 3 times the bytes.
# Version: imagecodecs 2026.3.6 (libjxl 0.11.2), pillow-jxl-plugin 1.3.8, Pillow 13.0.0.
# Expected: the number type says how finely the values are stored, not what they mean. A request for other colour spaces
#   (imagecodecs pull request 137, March 2026) says of jpegxl_encode that it writes sRGB always.
# Seen: uint8 is labelled sRGB; uint16 and float32 are labelled linear, lossless files too. jpegxl_decode gives back the
#   numbers that went in, so a round trip shows nothing. A viewer obeys the label: grey 55 of 255 is shown as 128. The
#   encoder obeys it too, and spends on shadows what it would spend on a brighter part of the scene.
# Meaning: a codec study that keeps pictures as float (as networks do) measures other bytes and another error than one
#   with 8 bits, by the darkness of the scene. A 16-bit night picture costs three times the link and is shown washed out.
#   For lossy files give it 8 bits; other numbers are right only if they are linear light.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check imagecodecs==2026.3.6 pillow-jxl-plugin==1.3.8 pillow==13.0.0 numpy==2.4.6 \
  >pip.log 2>&1 || { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import imagecodecs
import numpy as np
import pillow_jxl  # registers the format
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

def shown(data):
    """Name of the colour space in the file, and the first pixel as a viewer shows it."""
    picture = Image.open(io.BytesIO(data))
    label = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    name = ImageCms.getProfileDescription(label).strip()
    return name, ImageCms.profileToProfile(picture, label, SRGB).getpixel((0, 0))[1]

def forms(pixels):
    """The same 8-bit values in each number type."""
    return {"uint8": pixels, "uint16": pixels.astype(np.uint16) * 257, "float32": (pixels / 255).astype(np.float32)}

grey = np.full((64, 64, 3), 55, np.uint8)
for name, array in forms(grey).items():
    for lossless in (True, False):
        data = imagecodecs.jpegxl_encode(array, lossless=lossless, distance=0 if lossless else 1)
        back = imagecodecs.jpegxl_decode(data)
        label, level = shown(data)
        print(f"{name:7} lossless {lossless!s:5}: label {label}, grey 55 is shown as {level}")
        assert np.allclose(back, array, rtol=0.02) and level == (55 if name == "uint8" else 128), "the labels changed"
        assert label.endswith("_Lin") == (name != "uint8")

rng = np.random.default_rng(1)
y, x = np.mgrid[0:240, 0:320]
scene = 0.5 + 0.3 * np.sin(x / 30) * np.cos(y / 20) + 0.15 * np.sin(x / 3) * (y > 120) + rng.normal(0, 0.03, (240, 320))
day = scene[..., None].clip(0, 1) * np.array([1, 0.8, 0.6]) * 255
sizes = {}
for time, light in (("day", 1.0), ("night", 0.2)):
    arrays = forms(np.round(day * light).astype(np.uint8))
    sizes[time] = [len(imagecodecs.jpegxl_encode(array, lossless=False, distance=1)) for array in arrays.values()]
    print(f"{time:5}, distance 1: bytes {dict(zip(arrays, sizes[time]))}")
assert sizes["day"][1] < sizes["day"][0] and sizes["night"][1] > 2 * sizes["night"][0], "the sizes are alike now"
assert all(size[1] == size[2] for size in sizes.values())
EOF

#!/usr/bin/env bash
# Finding: Pillow reads a compressed big-endian TIFF of floats, or of signed integers, with the bytes in the wrong order: 300.0 is
#   5e-41, without an error or a warning.
# Version: Pillow 13.0.0, tifffile 2026.3.3 with imagecodecs 2026.3.6 to write, opencv-python-headless 5.0.0.93 to compare.
# Expected: TIFF says in its first two bytes in which order it is written ("II" or "MM"); each reader follows. Pillow does so for
#   the same picture without compression.
# Seen: with LZW, Deflate or PackBits the library inside has put the bytes into the machine's order, and Pillow swaps
#   them once more for float32, int32 and int16. uint8 and uint16 are right, as is each type in a little-endian file.
#   tifffile and OpenCV read all of them rightly.
# Meaning: thermal pictures in degrees or depth in metres are floats, and ImageJ and what writes for it use big-endian files.
#   A converter or a data loader on Pillow gives zeros or noise for such a file from the day compression is switched on. The mode
#   ("F") and the size are right. Read floats by tifffile or OpenCV, or swap once more where the file begins with "MM".
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6 \
  opencv-python-headless==5.0.0.93 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
from pathlib import Path
import cv2
import numpy as np
import tifffile
from PIL import Image

y, x = np.mgrid[0:48, 0:64]

def read(picture, order, compression):
    """What Pillow, tifffile and OpenCV make of one file."""
    tifffile.imwrite("p.tif", picture, byteorder=order, compression=compression)
    assert Path("p.tif").read_bytes()[:2] == {"<": b"II", ">": b"MM"}[order]
    with Image.open("p.tif") as opened:
        return np.asarray(opened), tifffile.imread("p.tif"), cv2.imread("p.tif", cv2.IMREAD_UNCHANGED)

swapped = set()
for kind in ("uint8", "uint16", "int16", "int32", "float32"):
    picture = (x + y + (100 if kind == "uint8" else 300)).astype(kind)
    for compression in (None, "lzw", "deflate", "packbits"):
        for order in "<>":
            pillow, *others = read(picture, order, compression)
            assert all(other.dtype == kind and np.array_equal(other, picture) for other in others), "another reader errs"
            if not np.array_equal(pillow, picture):
                swapped.add((kind, compression, order))
                print(f"{kind:7} {compression:8} big-endian: {picture[0, :3]} is read as {pillow[0, :3]}")
                assert np.array_equal(pillow.astype(kind).byteswap(), picture), "the values are not swapped, but others"
assert swapped == {(kind, compression, ">") for kind in ("int16", "int32", "float32")
                   for compression in ("lzw", "deflate", "packbits")}, "Pillow reads other files rightly now"
EOF

#!/usr/bin/env bash
# Finding: pictures decoded from an MJPEG camera and given to a video encoder all become key frames.
# Version: PyAV (av) 18.1.0.
# Expected: the encoder decides which frames are key frames; equal pictures cost a few bytes each.
# Seen: the decoder marks each JPEG as an I picture (frame.pict_type). The encoder takes that mark as an order and
#   codes each frame on its own. The stream has 30 key frames of 30, and many times the bytes.
# Meaning: a transcoder from a USB or network MJPEG camera to H.264 or VP9 gets no gain from motion compensation, and
#   nothing reports it. Set frame.pict_type = PictureType.NONE before encode().
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 pillow==13.0.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
from fractions import Fraction
import av
import numpy as np
from av.video.frame import PictureType
from PIL import Image

av.logging.set_level(None)
scene = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
jpegs = []
for i in range(30):
    picture = scene.copy()
    picture[50:80, 10 + 4 * i:40 + 4 * i] = 255  # one moving square
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    jpegs.append(file.getvalue())

def encode(name, options, reset):
    camera = av.CodecContext.create("mjpeg", "r")
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 30), Fraction(30), options
    packets = []
    for i, jpeg in enumerate(jpegs):
        frame, = camera.decode(av.Packet(jpeg))
        frame.pts, frame.time_base = i, Fraction(1, 30)
        if reset:
            frame.pict_type = PictureType.NONE
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    keys, size = sum(p.is_keyframe for p in packets), sum(p.size for p in packets)
    print(f"{name:10} pict_type {'reset' if reset else 'as decoded':10} {keys:2} key frames, {size} bytes")
    return keys, size

for name, options in (("libx264", {"crf": "28"}), ("libvpx-vp9", {"crf": "35", "b": "0", "cpu-used": "8"})):
    keys, size = encode(name, options, False)
    keys_reset, size_reset = encode(name, options, True)
    assert keys == 30 and keys_reset == 1, "the mark of the decoder is no order now"
    assert size > 5 * size_reset
EOF

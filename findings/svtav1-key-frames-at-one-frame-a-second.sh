#!/usr/bin/env bash
# Finding: SVT-AV1 puts a key frame in every 21 pictures of a one-picture-a-second stream, if the distance is left open.
# Version: PyAV (av) 18.1.0, which contains SVT-AV1 4.1.0.
# Expected: the default distance of key frames is a number of frames, as with x264 and libvpx, or key frames come on
#   request only. A still scene then costs one key frame and tens of bytes a picture.
# Seen: the default follows the frame rate and is rounded to the groups of the encoder: 161 frames at 30 a second, 41 at
#   5, 21 at 2 and at 1. Seventy equal pictures at one a second hold 4 key frames, which are most of the bytes.
# Meaning: a slow camera on a thin link pays several times what the same settings cost in a test at 30 frames a
#   second. Set the distance (option "g") yourself, and ask for key frames with frame.pict_type.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export SVT_LOG=1  # errors only
timeout 100 venv/bin/python -I - <<'EOF'
from fractions import Fraction
import av
import numpy as np

av.logging.set_level(None)
picture = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)

def encode(rate, **extra):
    encoder = av.CodecContext.create("libsvtav1", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, rate), Fraction(rate)
    encoder.options = {"preset": "10", "crf": "40", "svtav1-params": "pred-struct=1:lp=1", **extra}
    packets = []
    for i in range(70):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, rate)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    size, key_size = sum(p.size for p in packets), sum(p.size for p in packets if p.is_keyframe)
    print(f"{rate:2} a second {extra or ''} key frames at {keys}: {key_size} of {size} bytes")
    return keys, size, key_size

results = {rate: encode(rate) for rate in (30, 5, 2, 1)}
fixed = encode(1, g="1000")
assert results[30][0] == [0]
assert results[5][0] == [0, 41]
assert results[2][0] == results[1][0] == [0, 21, 42, 63], "the default distance changed"
assert results[1][2] > 0.5 * results[1][1]
assert fixed[0] == [0] and results[1][1] > 2 * fixed[1]
EOF

#!/usr/bin/env bash
# Finding: code that asks PyAV for "av1" with libaom's low-delay options gets SVT-AV1 from 17.0.0 on, which ignores the
#   options without a word and keeps every picture until the stream ends.
# Version: PyAV (av) 16.1.0 (libaom) and 18.1.0 (SVT-AV1 4.1.0).
# Expected: PyAV's notes on 17.0.0 say that libaom is gone from the wheels, so: "libaom-av1" fails, and so does an option that
#   the new encoder does not have, as in FFmpeg's own command line.
# Seen: "libaom-av1" fails, but "av1" names whatever encoder is there. usage=realtime, lag-in-frames=0 and cpu-used are not
#   known to SVT-AV1: no error, no warning. 16.1.0 gives a packet for each of 20 pictures at once, 18.1.0 gives none until
#   the end. What was not understood is left in `options` after the first picture, and nobody looks there.
# Meaning: after an upgrade a live stream shows nothing, or is late by all that the encoder holds back. Name the encoder, give
#   it its own options, and raise if `encoder.options` is not empty once the encoder is open.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
for version in 16.1.0 18.1.0; do
  venv/bin/pip install -q --disable-pip-version-check --only-binary :all: --target "av$version" "av==$version" numpy==2.4.6 \
    >pip.log 2>&1 || { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
done
cat >program.py <<'EOF'
import sys
from fractions import Fraction
sys.path.insert(0, sys.argv[1])
import av
import numpy as np

rng = np.random.default_rng(1)
y, x = np.mgrid[0:1:128j, 0:1:128j]
scene = 127 + 60 * np.sin(9 * y) * np.cos(7 * x)
pictures = [np.clip(scene[..., None] + rng.normal(i, 6, (128, 128, 3)), 0, 255).astype(np.uint8) for i in range(20)]

def encode(name, **options):
    """Name of the encoder, bytes that came with each picture, bytes at the end, and the options that are left."""
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 128, 128, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 5), Fraction(5), options
    sizes = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        sizes.append(sum(packet.size for packet in encoder.encode(frame)))
    end = sum(packet.size for packet in encoder.encode(None))
    at_once = sum(size > 0 for size in sizes)
    print(f"PyAV {av.__version__}, {name!r} is {encoder.codec.name}: {at_once} of 20 pictures come at once, {end} bytes at "
          f"the end; options left: {dict(encoder.options)}")
    return encoder.codec.name, at_once, set(encoder.options)

LOW_DELAY = {"crf": "40", "usage": "realtime", "lag-in-frames": "0", "cpu-used": "8"}
found = encode("av1", **LOW_DELAY)
if av.__version__ == "16.1.0":
    assert found == ("libaom-av1", 20, set()), found
else:
    assert found == ("libsvtav1", 0, {"usage", "lag-in-frames", "cpu-used"}), found
    cured = encode("libsvtav1", crf="40", preset="8", **{"svtav1-params": "pred-struct=1:lookahead=0"})  # the cure
    assert cured == ("libsvtav1", 20, set()), cured
EOF
export SVT_LOG=1  # errors only
for version in 16.1.0 18.1.0; do timeout 100 venv/bin/python -I program.py "av$version"; done

#!/usr/bin/env bash
# Finding: FFmpeg's MJPEG encoder codes one still picture 14 times with very different sizes and qualities.
# Version: PyAV (av) 18.1.0.
# Expected: JPEG has no memory, so equal pictures give equal bytes, whatever the nominal frame rate is.
# Seen: the encoder runs a rate control for video with a default target of 200 kbit/s. At 30 frames a second one picture
#   takes from 4.9 to 34.7 KB, 12 dB apart; at 1 frame a second all but the first take 34.7 KB. With qmin = qmax all 14
#   are equal.
# Meaning: a "JPEG baseline" or an MJPEG preview made this way measures the rate control: by the place in the sequence and
#   the frame rate. Set qmin and qmax to one value, or use an image library.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
from fractions import Fraction
import av
import numpy as np

av.logging.set_level(None)
rng = np.random.default_rng(1)
frequency = np.hypot(np.fft.fftfreq(240)[:, None], np.fft.rfftfreq(320)[None])
frequency[0, 0] = 1
grey = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(240, 320))) / frequency ** 1.2, s=(240, 320))  # falls as in photographs
picture = np.dstack([128 + 45 * grey / grey.std()] * 3).clip(0, 255).astype(np.uint8)

def encode(rate, **options):
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuvj420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, rate), Fraction(rate), options
    packets = []
    for i in range(14):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, rate)
        packets += encoder.encode(frame)
    sizes, decibels = [p.size for p in packets], []
    for packet in packets:
        decoded, = av.CodecContext.create("mjpeg", "r").decode(av.Packet(bytes(packet)))
        error = decoded.to_ndarray(format="rgb24").astype(float) - picture
        decibels.append(round(float(10 * np.log10(255 ** 2 / np.mean(error ** 2))), 1))
    print(f"{rate:2} a second {options or ''}\n  bytes {sizes}\n  dB    {decibels}")
    return sizes, decibels

fast, fast_db = encode(30)
slow, _ = encode(1)
fixed, fixed_db = encode(30, qmin="3", qmax="3")
assert max(fast) > 6 * min(fast), "equal pictures have similar sizes now"
assert max(fast_db) - min(fast_db) > 10
assert slow != fast and slow[-1] > 3 * fast[-1]
assert len(set(fixed)) == 1 and len(set(fixed_db)) == 1
EOF

#!/usr/bin/env bash
# Finding: at a constant rate factor (crf) without lookahead, x264 and x265 code a picture that does not change again and
#   again, each time finer: 30 equal frames cost 7 to 17 times the first one, and the quality climbs by 11 to 14 dB.
# Version: PyAV (av) 18.1.0 (x264 and x265), numpy 2.4.6.
# Expected: crf is the setting for one quality in all frames. A frame equal to the last one costs some 20 bytes, as it does
#   with a fixed quantizer (qp).
# Seen: the quantizer is lowered where little changes (qcomp, 0.6 if not set). With a lookahead x264 knows that the scene
#   stays, and spends once, on the first frame. tune=zerolatency, and preset=ultrafast by itself, have none: the first frame
#   is coarse, the second, which has nothing new, takes 1.2 to 3.5 times as much, and so on up to 50 dB. With qp=30, or crf=30
#   and qcomp=1, the frames behind the first have 16 to 44 bytes each.
# Meaning: a fixed camera on a thin link is exactly this case: the queue is full when something does happen, and a test with
#   moving pictures does not show it. Use qp, or set qcomp=1 with crf, and measure a still scene.
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
FRAMES = 30
y, x = np.mgrid[0:240, 0:320]
scene = np.stack([127 + 60 * np.sin(x / 17) * np.cos(y / 13), 127 + 50 * np.sin(x / 23), y / 2], 2)
scene += np.random.default_rng(1).normal(0, 6, scene.shape)
picture = av.VideoFrame.from_ndarray(scene.clip(0, 255).astype(np.uint8), format="rgb24").reformat(format="yuv420p")
luma = picture.to_ndarray()[:240].astype(float)

def still(name, decoder, **options):
    """The sizes of equal frames in bytes, and the quality of the first and the last one in dB."""
    writer, reader = av.CodecContext.create(name, "w"), av.CodecContext.create(decoder, "r")
    writer.width, writer.height, writer.pix_fmt = 320, 240, "yuv420p"
    writer.time_base, writer.framerate, writer.gop_size, writer.thread_count = Fraction(1, 2), Fraction(2), 1000, 1
    writer.options = {key.replace("_", "-"): value for key, value in options.items()}
    packets = []
    for i in range(FRAMES):
        picture.pts = i
        packets += writer.encode(picture)
    packets += writer.encode(None)
    decoded = [frame for packet in packets for frame in reader.decode(packet)] + reader.decode(None)
    first, *_, last = [10 * np.log10(255**2 / np.square(f.to_ndarray()[:240] - luma).mean()) for f in decoded]
    sizes = [packet.size for packet in packets]
    print(f"{name} {' '.join(options.values()):37} first frame {sizes[0]:5} bytes, next {sizes[1:5]}, all {sum(sizes):5}; "
          f"{first:.1f} dB, at the end {last:.1f} dB")
    assert len(sizes) == len(decoded) == FRAMES
    return sizes, last - first

for name, decoder, options in (("libx264", "h264", {"tune": "zerolatency"}), ("libx264", "h264", {"preset": "ultrafast"}),
                               ("libx265", "hevc", {"tune": "zerolatency", "x265_params": "log-level=none"})):
    sizes, gain = still(name, decoder, crf="30", **options)
    assert max(sizes[1:6]) > sizes[0] and sum(sizes) > 6 * sizes[0] and gain > 9, "a still picture is coded once now"
sizes, gain = still("libx264", "h264", crf="30")
assert max(sizes[1:]) < 100 and abs(gain) < 1, "with a lookahead it is coded more than once now"
for options in ({"qp": "30"}, {"crf": "30", "x264_params": "qcomp=1"}):
    sizes, gain = still("libx264", "h264", tune="zerolatency", **options)
    assert max(sizes[1:]) < 100 and abs(gain) < 1, "the cure fails"
EOF

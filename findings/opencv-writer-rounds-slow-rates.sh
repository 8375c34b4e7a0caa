#!/usr/bin/env bash
# Finding: a video written by OpenCV at one picture in 10 minutes runs 20 % too fast, at one in 15 minutes 11 % too slow, and
#   at one in an hour it is not opened.
# Version: opencv-python-headless 4.13.0.92 and 5.0.0.93 (FFmpeg backend), PyAV (av) 18.1.0 to read the time stamps.
# Expected: the rate is a double, and the file formats hold fractions such as 1/600. OpenCV issue 9023 (25.4 pictures a second
#   written as 25) is closed, and 25.4 is right today.
# Seen: the rate becomes a whole number of thousandths at most, so 1/600 = 0.00167 is 0.002, 1/60 is 0.017 and 1/30 is 0.033.
#   The time stamps of MP4, Matroska and AVI follow the rounded rate; cv2.VideoCapture reports it as the true one.
#   Slower than one picture in 1000 s becomes 0, and isOpened() is False.
# Meaning: in a recording in real time (a day of a slow camera, to be laid beside a weather log) the clock is off by 28
#   minutes a day at one picture a minute, and by 4 hours at one in 10 minutes. Give PyAV a Fraction, or write at 1 or
#   25 pictures a second and keep the true times beside the file.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
for version in 4.13.0.92 5.0.0.93; do
  venv/bin/pip install -q --disable-pip-version-check --only-binary :all: --target "cv$version" \
    "opencv-python-headless==$version" numpy==2.4.6 >pip.log 2>&1 ||
    { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
done
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export OPENCV_LOG_LEVEL=SILENT OPENCV_FFMPEG_LOGLEVEL=-8
cat >write.py <<'EOF'
import json
import sys
sys.path.insert(0, sys.argv[1])
import cv2
import numpy as np

opened = {}
for form, code in (("mp4", "mp4v"), ("mkv", "mp4v"), ("avi", "MJPG")):
    for seconds in (30, 60, 600, 900, 3600):
        name = f"{form}-{seconds}.{form}"
        writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 1 / seconds, (128, 96))
        opened[name] = writer.isOpened()
        for number in range(11):
            writer.write(np.full((96, 128, 3), 20 * number, np.uint8))
        writer.release()
        opened[name] = opened[name] and cv2.VideoCapture(name).get(cv2.CAP_PROP_FPS)
print(cv2.__version__, file=sys.stderr)
print(json.dumps(opened))
EOF
cat >check.py <<'EOF'
import json
import sys
from fractions import Fraction
import av
import numpy as np

def interval(name):
    """Mean distance of the pictures in seconds."""
    with av.open(name) as file:
        stream = file.streams.video[0]
        times = [packet.pts * stream.time_base for packet in file.demux(stream) if packet.pts is not None]
    assert len(times) == 11
    return float(times[-1] - times[0]) / 10

for name, rate in json.load(sys.stdin).items():
    seconds = int(name.split("-")[1].split(".")[0])
    found = interval(name) if rate else None
    print(f"{name:13} wanted {seconds:4} s, found {f'{found:.1f} s, VideoCapture says {rate}/s' if rate else 'not opened'}")
    wanted = {30: 1 / 0.033, 60: 1 / 0.017, 600: 500, 900: 1000, 3600: None}[seconds]
    assert found is wanted is None or abs(found - wanted) < 0.1, "the rounding changed"

with av.open("cure.mp4", "w") as file:  # the same by PyAV
    stream = file.add_stream("mpeg4", rate=Fraction(1, 600))
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for number in range(11):
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 128, 3), 20 * number, np.uint8), format="rgb24")))
    file.mux(stream.encode(None))
print("PyAV with Fraction(1, 600): found", interval("cure.mp4"))
assert interval("cure.mp4") == 600
EOF
for version in 4.13.0.92 5.0.0.93; do
  timeout 100 venv/bin/python -I write.py "cv$version" | timeout 100 venv/bin/python -I check.py
done

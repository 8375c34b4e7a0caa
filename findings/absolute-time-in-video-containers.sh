#!/usr/bin/env bash
# Finding: three containers given the same time of day as time stamp read back as three different recordings.
# Version: PyAV (av) 18.1.0.
# Expected: frames stamped with Unix time keep it, or the muxer refuses it. The recording lasts 0.5 seconds.
# Seen: MPEG-TS keeps 33 bits of a 90 kHz clock, so the time comes back modulo 26.5 hours, without an error.
#   Matroska keeps the time, but says that the file lasts more than 55 years and has no start time. MP4 keeps the time,
#   the start and the duration.
# Meaning: "time of the picture" carried in pts survives by the choice of the file format; two days become one in MPEG-TS,
#   and a player shows a Matroska file as empty for decades. Start pts at 0 and carry the time of day beside it.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
from fractions import Fraction
import av
import numpy as np

av.logging.set_level(None)
START, CLOCK = 1_750_000_000, 90_000  # seconds of Unix time, ticks a second

def round_trip(form):
    file = io.BytesIO()
    out = av.open(file, "w", format=form)
    stream = out.add_stream("libx264", rate=10, options={"tune": "zerolatency"})
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    for i in range(6):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, np.uint8), format="rgb24")
        frame.pts, frame.time_base = START * CLOCK + i * 9000, Fraction(1, CLOCK)
        for packet in stream.encode(frame):
            out.mux(packet)
    for packet in stream.encode(None):
        out.mux(packet)
    out.close()
    back = av.open(io.BytesIO(file.getvalue()))
    start, duration = back.start_time, back.duration
    times = [round(float(frame.time), 3) for frame in back.decode(video=0)]
    print(f"{form:9} first picture at {times[0]} s, last at {times[-1]} s, file starts at {start} us, lasts {duration} us")
    return times, start, duration

mp4, mkv, ts = (round_trip(form) for form in ("mp4", "matroska", "mpegts"))
assert mp4[0][0] == START and mp4[1] == START * 10 ** 6 and mp4[2] == 600_000
assert mkv[0][0] == START and mkv[1] is None and mkv[2] >= START * 10 ** 6, "Matroska's duration changed"
wrapped = START * CLOCK % 2 ** 33 / CLOCK
print(f"the start modulo 2^33 ticks: {wrapped:.3f} s")
assert abs(ts[0][0] - wrapped) < 0.01, "MPEG-TS keeps the time now"
EOF

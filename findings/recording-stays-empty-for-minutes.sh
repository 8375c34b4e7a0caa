#!/usr/bin/env bash
# Finding: a recording of a quiet scene has 0 bytes on the disk after 300 pictures, in Matroska and in MPEG-TS.
# Version: PyAV (av) 18.1.0.
# Expected: formats made for broken-off recordings (MPEG-TS, Matroska, MP4 in fragments) lose at most the last pictures or
#   the last cluster, when the power is cut.
# Seen: the output goes to the file in blocks of 256 KiB. Five minutes at one picture a second are fewer bytes than that
#   even in MPEG-TS, so nothing is there before close(); MP4 in fragments holds its 36 first bytes. The argument
#   buffer_size of av.open() changes nothing for a file name. With the option flush_packets=1 MPEG-TS is complete.
# Meaning: the better the codec and the quieter the scene, the more a power cut takes: here the whole recording.
#   Pass options={"flush_packets": "1"} and look at the file while the program runs.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import os
from fractions import Fraction
import av
import numpy as np

av.logging.set_level(None)
picture = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)

def pictures_in(data):
    try:
        return sum(1 for _ in av.open(io.BytesIO(data)).decode(video=0))
    except (av.FFmpegError, IndexError):
        return 0

def record(form, buffer_size=32768, count=300, **options):
    out = av.open("recording", "w", format=form, options=options, buffer_size=buffer_size)
    stream = out.add_stream("libx264", rate=1, options={"tune": "zerolatency", "preset": "ultrafast", "qp": "30"})
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1)
        for packet in stream.encode(frame):
            out.mux(packet)
    with open("recording", "rb") as file:
        data = file.read()
    out.close()
    print(f"{form:9} {options} buffer_size={buffer_size}: after {count} pictures {len(data)} bytes with {pictures_in(data)} "
          f"pictures, after close() {os.path.getsize('recording')} bytes")
    return len(data), pictures_in(data)

assert record("matroska") == (0, 0), "Matroska is written earlier now"
assert record("mpegts") == (0, 0), "MPEG-TS is written earlier now"
assert record("mpegts", buffer_size=1024) == (0, 0)
assert record("mpegts", count=400)[0] == 2 ** 18
assert record("mp4", movflags="frag_every_frame+empty_moov") == (36, 0)
assert record("mpegts", flush_packets="1")[1] == 300
assert 280 <= record("matroska", flush_packets="1")[1] < 300
EOF

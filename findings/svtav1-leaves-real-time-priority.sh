#!/usr/bin/env bash
# Finding: SVT-AV1, used by root, makes the caller's own thread a real-time one (SCHED_FIFO, priority 99) and leaves it so.
# Version: PyAV (av) 18.1.0, which contains SVT-AV1 4.1.0; Linux; needs root, or the right to set priorities.
# Expected: an encoder may choose how its own threads run; the thread that calls it stays as it was.
# Seen: before the first picture the caller is under SCHED_OTHER. After one picture of 256x256 it is under SCHED_FIFO 99,
#   also when the encoder is gone; threads and programs that it starts from then on inherit that.
# Meaning: a daemon or a benchmark in a container runs as root. From its first AV1 picture on it takes the processor from
#   everything else: the broker, the watchdog, the codecs that it is compared with. x264 in the same process changes
#   nothing. Set the policy back after each call that encodes, or encode as a user without that right.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
python3 -c 'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))' 2>/dev/null ||
  { echo "skipped: this user may not set real-time priorities"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export SVT_LOG=1  # errors only
timeout 100 venv/bin/python -I - <<'EOF'
import gc
import os
from fractions import Fraction
import av
import numpy as np

picture = np.random.default_rng(1).integers(0, 255, (256, 256, 3), dtype=np.uint8)

def policy():
    """Policy and priority of the calling thread."""
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority

def encode(name, **options):
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 256, 256, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1), Fraction(1), options
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    size = sum(packet.size for packet in [*encoder.encode(frame), *encoder.encode(None)])
    print(f"{name}: {size} bytes, then policy {policy()}")

before = policy()
print("at the start: policy", before)
assert before == (os.SCHED_OTHER, 0)
encode("libx264", preset="veryfast")
assert policy() == before
encode("libsvtav1", preset="8")
gc.collect()
left = policy()
assert left == (os.SCHED_FIFO, 99), f"the caller's policy is {left} now"
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # the cure
assert policy() == before
EOF

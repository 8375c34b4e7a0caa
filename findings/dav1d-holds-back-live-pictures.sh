#!/usr/bin/env bash
# Finding: the AV1 decoder dav1d holds back 2 to 4 finished pictures, and the number grows with the threads.
# Version: PyAV (av) 18.1.0 (decoder libdav1d; pictures made with SVT-AV1 in low delay, which holds back none).
# Expected: in a stream without reordering each packet gives its picture at once. PyAV's default thread type is SLICE,
#   which adds no delay with the H.264 decoder.
# Seen: with 1 thread the first picture comes with packet 0; with 2 to 4 threads with packet 2, with 8 with packet 3,
#   with 16 with packet 4. thread_type changes nothing. The flag low_delay makes it 0 with any number of threads.
# Meaning: at one picture a second a viewer is 2 to 4 seconds late, by the thread count (the default 0 lets the decoder
#   take one that fits the machine), and the last pictures of a burst show up with the next burst only.
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
from av.codec.context import Flags

av.logging.set_level(None)
picture = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)

def packets_of(name, options):
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1), Fraction(1), options
    packets = []
    for i in range(12):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1)
        new = encoder.encode(frame)
        assert len(new) == 1, "the encoder holds pictures back"
        packets += [bytes(p) for p in new]
    encoder.encode(None)
    return packets

def first_picture(name, packets, threads, low_delay=False, kind="SLICE"):
    decoder = av.CodecContext.create(name, "r")
    decoder.thread_count, decoder.thread_type = threads, kind
    if low_delay:
        decoder.flags |= Flags.low_delay
    counts = [len(decoder.decode(av.Packet(p))) for p in packets]
    decoder.decode(None)  # always drain before the decoder is dropped
    return next(i for i, n in enumerate(counts) if n)

av1 = packets_of("libsvtav1", {"preset": "10", "crf": "40", "svtav1-params": "pred-struct=1:lp=1"})
h264 = packets_of("libx264", {"tune": "zerolatency"})
fresh = av.CodecContext.create("libdav1d", "r")
print("default:", fresh.thread_type, "thread_count", fresh.thread_count)
for threads, late in ((1, 0), (2, 2), (4, 2), (8, 3), (16, 4)):
    seen = [first_picture("libdav1d", av1, threads), first_picture("libdav1d", av1, threads, kind="AUTO"),
            first_picture("libdav1d", av1, threads, low_delay=True), first_picture("h264", h264, threads)]
    print(f"{threads:2} threads: first picture with packet {seen[0]} (AUTO {seen[1]}, low_delay {seen[2]}, H.264 {seen[3]})")
    assert seen == [late, late, 0, 0], "the delay changed"
EOF

#!/usr/bin/env bash
# Finding: FFmpeg's RTP sender takes a camera's JPEG without an error and sends nothing, or sends 2592 columns as 544.
# Version: PyAV (av) 18.1.0 (FFmpeg's RTP muxer and MJPEG encoder), Pillow 13.0.0, numpy 2.4.6.
# Expected: RFC 2435 carries 4:2:0 and 4:2:2, baseline, with the standard Huffman tables, up to 2040 pixels. A picture that it
#   cannot carry is refused: mux() raises, or the stream is not opened.
# Seen: for 4:4:4, grey, progressive and optimised JPEGs mux() succeeds and no datagram leaves; the reason goes to FFmpeg's
#   log, which PyAV does not show. The encoder of FFmpeg itself makes optimised tables if it is not told otherwise, so encoder
#   and sender with default settings send nothing either. A picture that is too wide is sent whole, with a width modulo
#   2048 in each header: 2592 is announced as 544 and 2048 as 0. A size that is no multiple of 8 is rounded up (854 is 856).
# Meaning: a receiver shows black, and the sender's counters are right. A 5-megapixel camera works at half the resolution, and
#   is a 544-pixel smear at the full one. Encode with huffman=default and yuvj420p, at most 2040 wide, or repack through H.264;
#   and count what leaves the socket.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 pillow==13.0.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import socket
from fractions import Fraction
import av
import numpy as np
from PIL import Image

receiver = socket.socket(type=socket.SOCK_DGRAM)  # on loopback
receiver.bind(("127.0.0.1", 0))
receiver.settimeout(0.5)
JPEG = 26  # RTP payload type

def scene(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], 2).astype(np.uint8)

def by_pillow(width=320, height=240, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(scene(width, height)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()

def by_ffmpeg(**options):
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 320, 240, "yuvj420p", Fraction(1, 10)
    encoder.options = options
    frame = av.VideoFrame.from_ndarray(scene(320, 240), format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    return b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))

def announced(name, jpeg):
    """Width and height in the headers of what leaves, or None if nothing does."""
    with (av.open(io.BytesIO(jpeg), format="jpeg_pipe") as source,
          av.open("rtp://127.0.0.1:%d" % receiver.getsockname()[1], "w", format="rtp") as out):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, 0, 0
                out.mux(packet)
    sizes = set()
    try:
        while True:
            data = receiver.recv(65536)
            if data[1] & 127 == JPEG:
                sizes.add((data[18] * 8, data[19] * 8))
    except TimeoutError:
        pass
    print(f"{name:28} {len(jpeg):6} bytes: {f'sent as {sizes}' if sizes else 'nothing is sent'}")
    return sizes.pop() if sizes else None

assert announced("baseline 4:2:0", by_pillow()) == announced("baseline 4:2:2", by_pillow(subsampling=1)) == (320, 240)
assert announced("FFmpeg, huffman=default", by_ffmpeg(huffman="default")) == (320, 240), "the cure fails"
for name, jpeg in (("4:4:4", by_pillow(subsampling=0)), ("grey", by_pillow(mode="L")), ("optimised", by_pillow(optimize=True)),
                   ("progressive", by_pillow(progressive=True)), ("FFmpeg, default options", by_ffmpeg())):
    assert announced(name, jpeg) is None, "it is sent now"
for width, shown in ((2040, 2040), (2048, 0), (2592, 544), (854, 856)):
    assert announced(f"{width} columns", by_pillow(width, 120)) == (shown, 120), "another width is announced now"
EOF

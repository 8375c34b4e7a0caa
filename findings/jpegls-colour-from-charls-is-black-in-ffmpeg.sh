#!/usr/bin/env bash
# Finding: FFmpeg reads a lossless colour picture of CharLS as a black one, and reports success.
# Version: imagecodecs 2026.3.6 (CharLS 2.4.3), PyAV (av) 18.1.0 (FFmpeg's jpegls decoder).
# Expected: JPEG-LS is one standard, and lossless: each reader has the pixels that went in, or an error. CharLS is what tools
#   for medical and scientific pictures use, FFmpeg is what players use.
# Seen: CharLS as imagecodecs calls it stores colour interleaved by samples, which FFmpeg has not built. FFmpeg writes "not
#   implemented" to its log, which PyAV does not show, and hands out a frame of the right size with each value 0 and no
#   mark of damage. The same with 16 bits is refused with an error. Grey pictures of 8 and 14 bits agree, and CharLS reads
#   what FFmpeg writes (interleaved by lines), at nearly the same size.
# Meaning: an archive of camera pictures that is checked by the writer's own reader is black in each player, transcoder and
#   frame loader. Write colour by FFmpeg or as three grey pictures, and decode with err_detect=explode, which raises.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check imagecodecs==2026.3.6 av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
from fractions import Fraction
import av
import imagecodecs
import numpy as np

y, x = np.mgrid[0:96, 0:128]
shades = 127 + np.stack([90 * np.sin(x / 9) * np.cos(y / 7), 70 * np.sin(x / 5), y - 48], 2)
shades += np.random.default_rng(1).normal(0, 2, shades.shape)
colour = shades.clip(0, 255).astype(np.uint8)
deep = (colour.astype(np.uint16) << 8) + 77
grey, thermal = colour[..., 0].copy(), (deep[..., 0] >> 2).copy()

def by_ffmpeg(data, **options):
    """The pixels and whether the frame is marked as damaged, or the error."""
    reader = av.CodecContext.create("jpegls", "r")
    reader.options = options
    try:
        frame, = reader.decode(av.Packet(data))
    except av.FFmpegError as error:
        return type(error).__name__, None
    return frame.to_ndarray(), frame.is_corrupt

def encoded_by_ffmpeg(pixels):
    writer = av.CodecContext.create("jpegls", "w")
    writer.height, writer.width = pixels.shape[:2]
    writer.pix_fmt, writer.time_base = "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.pts = 0
    packet, = [*writer.encode(frame), *writer.encode(None)]
    return bytes(packet)

for name, pixels in (("grey 8 bits", grey), ("grey 14 bits", thermal), ("colour 8 bits", colour), ("colour 16 bits", deep)):
    data = imagecodecs.jpegls_encode(pixels)
    assert np.array_equal(imagecodecs.jpegls_decode(data), pixels)
    found, damaged = by_ffmpeg(data)
    if damaged is None:
        print(f"{name:14} CharLS to FFmpeg: {found}")
        assert pixels is deep
        continue
    print(f"{name:14} CharLS to FFmpeg: equal {np.array_equal(found, pixels)}, values {found.min()} to {found.max()}, "
          f"marked as damaged {damaged}, {len(data)} bytes")
    assert not damaged and found.shape == pixels.shape
    if pixels is colour:
        assert found.max() == 0 and pixels.max() > 200, "FFmpeg reads colour of CharLS now"
    else:
        assert np.array_equal(found, pixels)
strict = by_ffmpeg(imagecodecs.jpegls_encode(colour), err_detect="explode")
print("colour 8 bits  CharLS to FFmpeg with err_detect=explode:", strict[0])
assert strict[1] is None, "the cure fails"
data = encoded_by_ffmpeg(colour)
back = imagecodecs.jpegls_decode(data)
print(f"colour 8 bits  FFmpeg to CharLS: equal {np.array_equal(back, colour)}, {len(data)} bytes")
assert np.array_equal(back, colour) and np.array_equal(by_ffmpeg(data)[0], colour)
EOF

#!/usr/bin/env bash
# Finding: pictures of an MJPEG camera, given to a video encoder, lose all that is darker than 16 and brighter than 235, even
#   with a lossless encoder.
# Version: PyAV (av) 18.1.0 (libx264, libvpx-vp9, SVT-AV1), Pillow 13.0.0 to make the JPEG.
# Expected: JPEG uses luma 0 to 255 (yuvj420p), video by convention 16 to 235. PyAV turns the frame into the encoder's
#   yuv420p, so it scales the range, as it does for RGB frames, or marks the stream as full range.
# Seen: the luma goes through as it is, and the stream has no mark or the one for the limited range. A reader stretches 16 to
#   235, so 38 of the 256 grey levels are plain black or white and others are off by up to 20. x264's own form for grey
#   (pix_fmt "gray") does the same. No warning. PyAV's manual does not mention it; its issue 1430 is about reading.
# Meaning: a night picture of a USB camera is black where the camera saw shapes, and each measure of the encoder is wrong by
#   that. Cures, asserted below: reformat(dst_color_range="MPEG"), or pix_fmt "yuvj420p" where the encoder has it.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check av==18.1.0 pillow==13.0.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export SVT_LOG=1  # errors only
timeout 100 venv/bin/python -I - <<'EOF'
import io
from fractions import Fraction
import av
import numpy as np
from PIL import Image

av.logging.set_level(None)
ramp = np.broadcast_to((np.arange(512) // 2).astype(np.uint8)[None, :, None], (64, 512, 3)).copy()
file = io.BytesIO()
Image.fromarray(ramp).save(file, "JPEG", quality=100)

def from_camera():
    frame, = av.CodecContext.create("mjpeg", "r").decode(av.Packet(file.getvalue()))
    return frame

def through(name, decoder, frame, pix_fmt="yuv420p", **options):
    """Largest error, and number of grey levels that are black or white, after encoding one frame and reading it as RGB."""
    encoder = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 512, 64, pix_fmt
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 25), Fraction(25), options
    source, mark = frame.format.name, frame.color_range
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    reader = av.CodecContext.create(decoder, "r")
    read = [found for packet in packets for found in reader.decode(av.Packet(bytes(packet)))] + reader.decode(None)
    pixels = read[0].to_ndarray(format="rgb24").astype(int)
    found = int(abs(pixels - ramp).max()), len(np.unique(ramp[np.isin(pixels, (0, 255))]))
    print(f"{name:10} {source:8} (range {mark}) to {pix_fmt:8}: read as range {read[0].color_range}, error to {found[0]:2}, "
          f"{found[1]} levels black or white")
    return found

direct = from_camera().to_ndarray(format="rgb24").astype(int)
print("the JPEG itself: largest error", abs(direct - ramp).max())
assert abs(direct - ramp).max() <= 2
X264 = ("libx264", "h264"), {"qp": "0"}
VP9, AV1 = (("libvpx-vp9", "vp9"), {"lossless": "1"}), (("libsvtav1", "libdav1d"), {"crf": "1", "preset": "8"})
for names, options in (X264, VP9, AV1):
    error, ends = through(*names, from_camera(), **options)
    assert error == 20 and ends > 35, "the range is kept now"
    rgb = av.VideoFrame.from_ndarray(ramp, format="rgb24")
    assert through(*names, rgb, **options)[0] <= 2
    scaled = from_camera().reformat(format="yuv420p", dst_color_range="MPEG")
    assert through(*names, scaled, **options)[0] <= 2, "the first cure fails"
names, options = X264
assert through(*names, from_camera(), "yuvj420p", **options)[0] <= 2, "the second cure fails"
grey = av.VideoFrame.from_ndarray(ramp[..., 0].copy(), format="gray")
assert through(*names, grey, "gray", **options)[0] == 20, "x264 keeps grey now"
EOF

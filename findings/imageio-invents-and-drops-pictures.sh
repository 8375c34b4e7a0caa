#!/usr/bin/env bash
# Finding: a recording of 11 pictures in bursts is read by imageio as 482 pictures, and two of the 11 are not among them.
# Version: imageio 2.38.1, imageio-ffmpeg 0.8.1, PyAV (av) 18.1.0 to write the recording.
# Expected: imread() of a video gives the pictures that it holds. count_frames() says 11, and so does each other reader.
# Seen: the FFMPEG plugin (the one that is taken where imageio-ffmpeg is the only video package) lets ffmpeg fill the recording
#   up to a constant rate. In MP4 that rate is a guess from the first time stamps or from the mean: pictures are repeated
#   through each pause, and a burst that is faster than the guess loses some. Twenty pictures at about one a second, a little
#   uneven, become 348. Matroska, whose rate is written down, repeats through the pauses and loses none. Even steps are right.
# Meaning: motion-triggered, slow or live-recorded cameras have no constant rate. A data set that is cut from them with
#   imageio holds the same picture many times in training and test, a codec's bytes per picture come out far too small, and the
#   event itself may be missing. Pass output_params=["-fps_mode", "passthrough"], or use plugin="pyav".
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check imageio==2.38.1 imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
from fractions import Fraction
import av
import imageio.v2
import imageio.v3
import numpy as np

WIDTH, HEIGHT, MARK = 128, 96, 4  # the number of the picture is the length of a white bar, MARK pixels a picture
scene = np.random.default_rng(1).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
BURSTS = [0, 0.5, 1, 1.5, 2, 60, 120, 120.5, 121, 180, 240]  # seconds
UNEVEN = list(np.arange(20) + np.random.default_rng(2).uniform(0, 0.6, 20))

def record(name, times_s):
    with av.open(name, "w") as file:
        stream = file.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_s in enumerate(times_s):
            picture = scene.copy()
            picture[40:56] = 0
            picture[40:56, :MARK * (number + 1)] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))

def numbers(pictures):
    return [round(int((picture[48].mean(1) > 128).sum()) / MARK) - 1 for picture in pictures]

def read(name, times_s):
    record(name, times_s)
    found = numbers(imageio.v3.imread(name, plugin="FFMPEG"))
    missing = sorted(set(range(len(times_s))) - set(found))
    with imageio.v2.get_reader(name, format="FFMPEG") as reader:
        count = reader.count_frames()
    print(f"{name}: {len(times_s)} pictures written, {len(found)} read, missing {missing or 'none'}, count_frames() {count}")
    assert count == len(times_s)
    whole = list(range(len(times_s)))
    assert numbers(imageio.v3.imread(name, plugin="FFMPEG", output_params=["-fps_mode", "passthrough"])) == whole, "cure fails"
    assert numbers(imageio.v3.imread(name, plugin="pyav")) == whole
    return len(found), missing

assert read("even.mp4", range(12)) == (12, [])
assert read("bursts.mkv", BURSTS) == (297, [])
assert read("bursts.mp4", BURSTS) == (482, [7, 8]), "the pictures that are read have changed"
assert read("uneven.mp4", UNEVEN)[0] > 200
EOF

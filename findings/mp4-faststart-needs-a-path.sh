#!/usr/bin/env bash
# Finding: an MP4 written into memory (for an HTTP answer, a webhook) is good, and with movflags=faststart, which is there for
#   the web, it fails when it is closed.
# Version: PyAV (av) 18.1.0 (libavformat 62).
# Expected: a file object that can be read, written and sought is enough to move the index to the front; or the option is
#   refused when the file is opened.
# Seen: the muxer opens the file again by its name, and a file object has none: FileNotFoundError for '<none>' at close, after
#   all pictures were coded, and what was written has no index: no player opens it. A path works, and so does
#   movflags=frag_keyframe+empty_moov, whose index comes first by itself.
# Meaning: clips of cameras that are handed out from memory need fragments, or a file on disk.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --only-binary :all: av==18.1.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import io
import av
import numpy as np

PICTURES = 25
y, x = np.mgrid[0:96, 0:128]

def write(target, movflags=""):
    """What closing said, if it failed. Pictures of a bright bar that moves over a computed scene."""
    container = av.open(target, "w", format="mp4", options={"movflags": movflags} if movflags else {})
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    for number in range(PICTURES):
        picture = np.repeat((90 + 60 * np.sin(x / 9 + y / 13) + 60 * (abs(x - 5 * number) < 6))[..., None], 3, 2)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")))
    container.mux(stream.encode(None))
    try:
        container.close()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return None

def pictures_in(source):
    """How many pictures a reader finds; None if it cannot open the file."""
    try:
        with av.open(source) as container:
            return sum(1 for _ in container.decode(video=0))
    except av.FFmpegError:
        return None

def index_first(data):
    """Whether the index (moov) stands before the pictures (mdat)."""
    return -1 < data.find(b"moov") < data.find(b"mdat")

memory = {}
for flags in ("", "+faststart", "+frag_keyframe+empty_moov"):
    memory[flags] = io.BytesIO()
    error = write(memory[flags], flags)
    data = memory[flags].getvalue()
    found = memory[flags] = error, pictures_in(io.BytesIO(data)), index_first(data)
    print(f"into memory, {flags or 'no flags'}: error {found[0]}, pictures {found[1]}, index first {found[2]}")
error = write("clip.mp4", "+faststart")
data = open("clip.mp4", "rb").read()
path = error, pictures_in("clip.mp4"), index_first(data)
print(f"to a path, +faststart: error {path[0]}, pictures {path[1]}, index first {path[2]}")
assert memory[""] == (None, PICTURES, False)
assert "FileNotFoundError" in memory["+faststart"][0] and memory["+faststart"][1] is None
assert memory["+frag_keyframe+empty_moov"] == (None, PICTURES, True)
assert path == (None, PICTURES, True)
EOF

#!/usr/bin/env bash
# Finding: OpenCV 5 writes a Python integer that needs more than 32 bits into a YAML file as the word "true".
# Version: opencv-python-headless 5.0.0.93, and 4.13.0.92 to compare with.
# Expected: version 5 has 64-bit integers (CV_64S, FileStorage reads and writes them in C++), so the number is stored, or an
#   error says that it does not fit. The type stub lists write(name, int) twice, the second for 64 bits.
# Seen: 2**31 - 1 is stored, 2**31 becomes "true" (1 in JSON): the integer that does not fit falls through to the form for
#   truth values. 4.13 writes the right digits. Both cut a 64-bit numpy array to its lowest 32 bits, without an error.
# Meaning: the time of a picture in milliseconds, stored beside its calibration or its features, is gone for good, and so are
#   identity numbers. Seconds work until 2038, so a test with seconds is green. Store a float (exact up to 2**53), text, or a
#   float64 array.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
for version in 4.13.0.92 5.0.0.93; do
  venv/bin/pip install -q --disable-pip-version-check --only-binary :all: --target "cv$version" \
    "opencv-python-headless==$version" numpy==2.4.6 >pip.log 2>&1 ||
    { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
done
cat >program.py <<'EOF'
import json
import sys
sys.path.insert(0, sys.argv[1])
import cv2
import numpy as np

NOW_MS = 1_764_543_210_123

def stored(value, form=".yml"):
    """What stands in the file for a value that is written under the name "at"."""
    file = cv2.FileStorage(form, cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    file.write("at", value)
    text = file.releaseAndGetString()
    return json.loads(text)["at"] if form == ".json" else text.split("at: ")[1].strip()

print("OpenCV", cv2.__version__)
found = {}
for name, value in (("seconds", NOW_MS // 1000), ("largest 32-bit", 2 ** 31 - 1), ("one more", 2 ** 31),
                    ("milliseconds", NOW_MS), ("as float", float(NOW_MS)), ("as text", str(NOW_MS))):
    found[name] = stored(value), stored(value, ".json")
    print(f"{name:14} {value!r:16} in YAML: {found[name][0]:17} in JSON: {found[name][1]!r}")
times = np.array([NOW_MS, NOW_MS + 40])
cut, kept = (stored(times.astype(kind), ".json")["data"] for kind in (np.int64, np.float64))
print(f"array {times}: as int64 {cut}, as float64 {kept}")

assert found["seconds"][1] == NOW_MS // 1000 and found["largest 32-bit"][1] == 2 ** 31 - 1
assert cut == times.astype(np.int32).tolist(), "64-bit arrays are kept now"
assert kept == times.tolist() and found["as float"][1] == NOW_MS and found["as text"][1] == str(NOW_MS)  # the cures
if cv2.__version__.startswith("4."):
    assert found["one more"][1] == 2 ** 31 and found["milliseconds"] == (str(NOW_MS), NOW_MS)
else:
    assert found["one more"] == found["milliseconds"] == ("true", 1), "large numbers are kept now"
    file = cv2.FileStorage('{"at": %d}' % NOW_MS, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    print("read from a file that holds the right digits:", int(file.getNode("at").real()))
    assert file.getNode("at").real() == NOW_MS, "reading is at fault too"
EOF
for version in 4.13.0.92 5.0.0.93; do timeout 100 venv/bin/python -I program.py "cv$version"; done

#!/usr/bin/env bash
# Finding: zfpy takes an error bound for a picture of integers, notes it in the header and ignores it: values are 8 off at
#   tolerance=1, and at tolerance=1000 the rest of the stream is the same.
# Version: zfpy 1.0.1.post0 (zfp 1.0.1), numpy 2.4.6.
# Expected: a tolerance is zfp's promise that no value is off by more, and a larger one saves bytes. What a mode does not support
#   is refused, as zfpy refuses uint16 and big-endian arrays (TypeError).
# Seen: raw thermal counts of 14 bits have to be widened to int32 or int64, as 16-bit types are refused. For these the bound is
#   not looked at: the stream has all bits, but of the lossy transform, so it is neither exact nor small (18 KB in each case). The
#   same numbers as float32 keep each bound, and need 27 KB at 1 and 5 KB at 1000. Without an argument all types are exact.
# Meaning: "at most one count off" is not so: eight counts are some tenths of a degree. Nor does a larger tolerance make the file
#   smaller for a thin link. Only a comparison of the decoded picture tells. Pass float32 (exact to 24 bits) with a tolerance, or
#   nothing for lossless.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check zfpy==1.0.1.post0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import warnings
import numpy as np
import zfpy

warnings.simplefilter("error")
rng = np.random.default_rng(1)
y, x = np.mgrid[0:128, 0:160]
counts = (8000 + 900 * np.sin(x / 19) * np.cos(y / 17) + rng.normal(0, 12, x.shape)).round().astype(np.int32)
TOLERANCES = 1, 10, 100, 1000
HEADER = 16  # bytes, more than the header has; it holds the tolerance

def coded(picture, **settings):
    """Bytes and the largest error."""
    stream = zfpy.compress_numpy(picture, **settings)
    return stream, int(np.ceil(abs(zfpy.decompress_numpy(stream).astype(np.float64) - picture).max()))

results = {}
for kind in (np.int32, np.int64, np.float32):
    results[kind] = [coded(counts.astype(kind), tolerance=tolerance) for tolerance in TOLERANCES]
    print(f"{kind.__name__:8}", [f"tolerance {t}: {len(s)} bytes, {e} off" for t, (s, e) in zip(TOLERANCES, results[kind])])
    stream, error = coded(counts.astype(kind))
    print(f"{'':8} without tolerance: {len(stream)} bytes, {error} off")
    assert error == 0, "the way without loss fails"

for kind in (np.int32, np.int64):
    assert {error for _, error in results[kind]} == {8}, "the bound counts now"
    assert len({stream[HEADER:] for stream, _ in results[kind]}) == 1
assert all(error <= tolerance for tolerance, (_, error) in zip(TOLERANCES, results[np.float32])), "the cure fails"
sizes = [len(stream) for stream, _ in results[np.float32]]
assert sizes == sorted(sizes, reverse=True) and sizes[0] > 4 * sizes[-1]
for kind in ("uint16", "int16", ">i4"):
    try:
        zfpy.compress_numpy(counts.astype(kind), tolerance=1)
    except TypeError as refusal:
        print(f"{kind}: {refusal}")
    else:
        raise AssertionError(f"{kind} is taken now")
EOF

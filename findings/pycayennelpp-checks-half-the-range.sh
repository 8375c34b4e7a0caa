#!/usr/bin/env bash
# Finding: pycayennelpp checks ranges, yet takes an analog value of 400 that the receiver reads as -255.36; and it cuts where
#   it should round, so that a value that the format holds exactly comes back one step off.
# Version: pycayennelpp 2.4.0 (Cayenne LPP, a common payload of LoRaWAN sensors).
# Expected: by the package's own table an analog value is signed, has 2 bytes and steps of 0.01: -327.68 to 327.67. For what
#   does not fit the library raises ValueError ("exceed value range"). What fits is read back as it was.
# Seen: the bound of signed types is that of unsigned ones. 327.68 to 655.35 pass and are read back negative, 655.36 is
#   refused, and below zero there is no bound at all: -400 is read back as 255.36. Accelerometer and load are the same.
#   int(value * 100) cuts: 0.29, 0.57 and 0.58 become 0.28, 0.56 and 0.57. Of random places in steps of the format, 0.0001
#   degrees, one in ten moves by a step, which is up to 11 m.
# Meaning: a distance in cm or a current in mA looks right for months, and turns negative when it first exceeds 327; an alarm
#   on "below 0" fires. Check the range yourself, and push each value to the middle of its step before it is cut, as below.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pycayennelpp==2.4.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import random
from cayennelpp import LppFrame

def back(add, *values):
    """What a receiver reads, or the error of the sender."""
    frame = LppFrame()
    try:
        getattr(frame, add)(1, *values)
        payload = bytes(frame)
    except ValueError as error:
        return type(error).__name__
    return LppFrame.from_bytes(payload).data[0].value

for value, expected in ((327.67, 327.67), (327.68, -327.68), (400.0, -255.36), (655.35, -0.01), (-400.0, 255.36)):
    print(f"analog input {value:7.2f} is read as {back('add_analog_input', value)}")
    assert back("add_analog_input", value) == (expected,), "the range is checked now"
print("analog input  655.36 is read as", back("add_analog_input", 655.36))
assert back("add_analog_input", 655.36) == "ValueError"
assert back("add_accelerometer", 40.0, 0.0, 0.0)[0] == -25.536 and back("add_load", 9000.0) == (-7777.216,)

steps = [step / 100 for step in range(1000)]
moved = [value for value in steps if back("add_analog_input", value) != (value,)]
print(f"analog input from 0 to 9.99: {len(moved)} of 1000 steps come back lower: {moved[:5]} ...")
assert moved[:3] == [0.29, 0.57, 0.58] and len(moved) > 30, "values are rounded now"

random.seed(1)
places = [(random.randint(-900_000, 900_000) / 1e4, random.randint(-1_800_000, 1_800_000) / 1e4) for _ in range(1000)]
moved = sum(back("add_location", *place, 0.0)[:2] != place for place in places)
print(f"location: {moved} of 1000 places moved by a step")
assert 50 < moved < 200

def whole(value, scale):
    """The value pushed to the middle of its step, so that cutting gives the nearest step."""
    step = round(value * scale)
    return (step + (step > 0) * 0.25 - (step < 0) * 0.25) / scale

assert all(back("add_analog_input", whole(value, 100)) == (value,) for value in steps), "the cure fails"
assert all(back("add_location", whole(a, 1e4), whole(b, 1e4), 0.0)[:2] == (a, b) for a, b in places), "the cure fails"
print("rounded before: all come back as they were")
EOF

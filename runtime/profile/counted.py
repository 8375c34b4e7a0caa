"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "9b32edfd8f8da795a17702920c77d22452f9463a5cc130d432e80df5e2c4f004"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (8e6, 637.0), "unpack": (7e6, 880.3)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.442, "step0": 0.380}

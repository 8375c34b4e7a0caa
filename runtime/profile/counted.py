"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "6a256f7e6b344bd4e6e65754b979abb065a88c0ae470c37adc15a4f3ea8ec720"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (8e6, 639.6), "unpack": (8e6, 889.3)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.442, "step0": 0.380}

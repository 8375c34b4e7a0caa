"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "17151042fe4ca2426e30354df2b33832bbfc00dfa9572c9a17f1b35afb561478"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (7e6, 1141.1), "unpack": (7e6, 1417.9)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.443, "step0": 0.373}

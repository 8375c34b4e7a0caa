"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "a337e696c249ebd99f5f540312d89276bd4a517c50bb0c4df89f00ddbb469ab2"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (14e6, 955.5), "unpack": (18e6, 1163.2)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.379, "step0": 0.374}

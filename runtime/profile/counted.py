"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "9b37ccee8c72947ee3c29a6a996d5a8b4373f4d0bf8a7339b6008b1dbfb4d719"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (6e6, 226.0), "unpack": (4e6, 226.9)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.426, "step0": 0.369}

"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "b8b548b4c65bc499452bfd1a7b199bbd9e4d5fecf4e595be2a4a4b15cc40a7e7"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (8e6, 586.8), "unpack": (7e6, 803.4)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.442, "step0": 0.380}

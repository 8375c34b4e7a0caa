"""aarch64 instructions of the default bundle; `tests/emulation/count_instructions.py DIR --write` writes this file."""

from __future__ import annotations

BUNDLE = "4251a57722c571407cbef5e794a030b1f1012a9b7c18c25b222ecfe7583a9d9e"
"""Digest of the bundle that was counted."""
CPU = "cortex-a72"
QUALITY = 0.5
PER_FRAME = {"pack": (8e6, 584.2), "unpack": (7e6, 798.5)}
"""Fixed part, and what each pixel adds. The context model is in them."""
PER_MAC = {"encode": 0.442, "step0": 0.380}

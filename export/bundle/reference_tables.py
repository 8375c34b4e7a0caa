"""Tables of inter frames, fitted by counting on sequences made of photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS
from export.bundle.tables import Counts
from export.data.sequences import Sequences

SEQUENCES = 60
_NEAR = 25


def count_references(
    codec: Codec, photographs: Path, progress: Callable[[float], None], sequences: int = SEQUENCES
) -> list[Counts]:
    """How often each symbol occurs under each scale index in inter frames to the picture before."""
    tables = codec.bundle.reference_tables
    total = np.zeros(tables.bits.size)
    source, random = Sequences(nn.Identity(), photographs, None, seed=1), np.random.default_rng(1)
    for index in range(sequences):
        first, *others = (np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8) for picture in source.made())
        level = (index * 97 + 13) % (LEVELS + 1)
        known = codec.trial(codec.analyze(np.ascontiguousarray(first)), level).decoded
        for picture in others:
            level = int(np.clip(level + random.normal(0, _NEAR), 0, LEVELS))
            trial = codec.trial(codec.analyze(np.ascontiguousarray(picture)), level, reference=known)
            for sweep in (entries for layer in trial.entries for entries in layer):
                total += np.bincount(sweep, minlength=total.size)
            known = trial.decoded
        progress((index + 1) / sequences)
    return np.split(total, tables.ends[:-1])

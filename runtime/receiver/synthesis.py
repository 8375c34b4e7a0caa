"""Options of the decoder: how a picture is synthesized from its latent."""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.errors import UsageError

MAX_STEPS = 4
"""Most steps of the flow decoder."""


@dataclass(frozen=True)
class SynthesisOptions:
    """How pictures are synthesized. Raises UsageError for a value out of range."""

    steps: int = 0
    """Steps of the flow decoder, 0 to 4; 0: the base decoder alone. Cut to what the bundle can do."""
    seed: int = 0
    """Seed of the flow decoder's noise, 0 to 2^32 - 1. The same packet and seed give the same picture."""
    realism: float = 1.0
    """How much detail the flow decoder may add, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS:
            raise UsageError(f"steps must be 0 to {MAX_STEPS}, got {self.steps}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not 0 <= self.realism <= 1:
            raise UsageError(f"realism must be 0 to 1, got {self.realism}")

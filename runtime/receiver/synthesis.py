"""Options of the decoder: how a picture is synthesized from its latent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgesem.bundle.bundle import FLOW, LARGE_DECODER, Bundle
from edgesem.errors import UsageError

MAX_STEPS = 4
"""Most steps of the flow decoder."""
DecoderSize = Literal["auto", "small", "large"]
DECODERS = get_args(DecoderSize)


@dataclass(frozen=True)
class SynthesisOptions:
    """How pictures are synthesized. Raises UsageError for a value out of range."""

    steps: int = 0
    """Steps of the flow decoder, 0 to 4; 0: the base decoder alone. Cut to what the bundle can do."""
    seed: int = 0
    """Seed of the flow decoder's noise, 0 to 2^32 - 1. The same packet and seed give the same picture."""
    realism: float = 1.0
    """How much detail the flow decoder may add, 0 to 1."""
    decoder: DecoderSize = "auto"
    """Base decoder. auto: the large one where the bundle has one, no steps are taken and no other frame waits."""

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MAX_STEPS:
            raise UsageError(f"steps must be 0 to {MAX_STEPS}, got {self.steps}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not 0 <= self.realism <= 1:
            raise UsageError(f"realism must be 0 to 1, got {self.realism}")
        if self.decoder not in DECODERS:
            raise UsageError(f"decoder must be {', '.join(DECODERS)}, got {self.decoder!r}")
        if self.decoder == "large" and self.steps:
            raise UsageError(
                "the flow decoder begins from the small decoder's picture: leave out the large one or steps"
            )

    def for_bundle(self, bundle: Bundle, *, hurried: bool = False) -> SynthesisOptions:
        """These options as far as a bundle can follow them, with the decoder that draws: small or large.

        hurried: other frames wait, so that `auto` is the small one.
        """
        steps = self.steps if FLOW in bundle.files else 0
        wanted = self.decoder == "large" or (self.decoder == "auto" and not hurried)
        large = wanted and not steps and LARGE_DECODER in bundle.files
        return replace(self, steps=steps, decoder="large" if large else "small")

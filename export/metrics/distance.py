"""Distance of two pictures by features of a network: features of one original serve all that was decoded from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from edgesem.quality.metrics import Frame

if TYPE_CHECKING:
    from torch import Tensor


class FeatureDistance(ABC):
    """A measure by a network. Not safe to be used by two threads at a time."""

    digest: str
    """SHA-256 of the files of weights."""
    _last: tuple[Frame, list[Tensor]] | None = None

    def __call__(self, original: Frame, decoded: Frame) -> float:
        """The distance of two pictures uint8 [H, W, 3], RGB, of one size, sides of at least 32; 0 is equal."""
        import torch

        with torch.inference_mode():
            if self._last is None or self._last[0] is not original:
                self._last = (original, self._seen(original))
            return float(self._apart(self._last[1], self._seen(decoded)))

    @abstractmethod
    def _seen(self, picture: Frame) -> list[Tensor]:
        """What is compared of one picture."""

    @abstractmethod
    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """The distance, a tensor of one number, of what `_seen` gives for two pictures."""


def planes_of(picture: Frame) -> Tensor:
    """A picture uint8 [H, W, 3] as float32 [1, 3, H, W], 0..1."""
    import torch

    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255

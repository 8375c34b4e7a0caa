"""The measures of the rate-distortion bench: title, digits, and the number that rises with quality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from edgesem.quality.metrics import gmsd_db, ms_ssim_db


@dataclass(frozen=True)
class Score:
    """One measure of a decoded picture."""

    title: str
    digits: int
    """Digits behind the point that tables show."""
    short_digits: int
    """Those of the short table."""
    rising: Callable[[float], float] = float
    """A number that rises with quality, in steps that look alike: what curves are compared by."""

    @property
    def falls(self) -> bool:
        """Whether less is better."""
        return self.rising(1.0) < self.rising(0.0)


def _negated(value: float) -> float:
    return -value


SCORES = {
    "psnr": Score("PSNR", 2, 1),
    "ms_ssim": Score("MS-SSIM", 4, 3, ms_ssim_db),
    "ssimulacra2": Score("SSIMULACRA2", 1, 0),
    "gmsd": Score("GMSD", 4, 3, gmsd_db),
    "lpips": Score("LPIPS", 3, 3, _negated),
    "lpips_vgg": Score("LPIPS-VGG", 3, 3, _negated),
    "dists": Score("DISTS", 4, 3, _negated),
    "dists_like": Score("DISTS-like", 3, 3, _negated),
    "detector_features": Score("detector features", 3, 3, _negated),
}
_FIRST = ("dists", "dists_like", "lpips_vgg", "lpips", "detector_features", "ssimulacra2", "gmsd", "ms_ssim", "psnr")


def honest_order(metrics: Iterable[str], trained_on: Collection[str] | None) -> list[str]:
    """The measures that training did not see first, those nearest to the eye before others.

    trained_on: the measures that training saw; None where nobody knows.
    """
    seen = SCORES if trained_on is None else trained_on
    return sorted(metrics, key=lambda metric: (metric in seen, _FIRST.index(metric)))


def titles(metrics: Iterable[str], trained_on: Collection[str] | None) -> list[str]:
    """Titles for people, those of measures that training saw marked."""
    return [f"{SCORES[m].title} (trained on)" if m in (trained_on or ()) else SCORES[m].title for m in metrics]

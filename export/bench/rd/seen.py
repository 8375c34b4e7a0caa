"""Which measures the training of a bundle saw, so that a bench can say which of its judges is independent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# setting of a training run that weighs a loss -> the measures that learn from it
_LOSSES = {
    "ms_ssim": ("ms_ssim",),
    "ssimulacra2": ("ssimulacra2",),
    "lpips_weight": ("lpips",),
    "vgg_weight": ("lpips_vgg", "dists", "dists_like"),
}
_PARTS = ("int8", "decoder.large")
_FILES = {"lpips_weight": "lpips", "vgg_weight": "vgg"}  # without its file of weights a loss is not computed


def trained_on(manifest: Mapping[str, Any]) -> list[str] | None:
    """The measures that any part of a bundle was trained on, in the order of their names; None if it does not say.

    Squared error, which is PSNR, is a part of every training. A measure by VGG16 counts as seen if training looked
    through VGG16 at all, whichever of its layers.
    """
    runs = list(_runs(manifest.get("training")))
    if not runs:
        return None
    for part in _PARTS:  # put into a bundle after its export
        runs.extend(_runs(manifest.get(part)))
    found = {"psnr"}
    for settings in runs:
        for loss, measures in _LOSSES.items():
            if settings.get(loss) and settings.get(_FILES.get(loss, ""), True):
                found.update(measures)
    return sorted(found)


def _runs(record: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of each run, of the codec and of all parts that a record holds."""
    if isinstance(record, Mapping):
        for name, value in record.items():
            if name == "history" and isinstance(value, list):
                yield from (one for one in value if isinstance(one, Mapping))
            else:
                yield from _runs(value)

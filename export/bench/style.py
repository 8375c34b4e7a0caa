"""Colours and markers of the codecs in the plots of all benches."""

from __future__ import annotations

# Okabe and Ito's colours, told apart by colour-blind eyes; the markers tell them apart in grey
_STYLES = {
    "edgesem": ("#D55E00", "o"),
    "edgesem+1step": ("#E69F00", "o"),
    "edgesem+2step": ("#9C6B00", "o"),
    "edgesem+4step": ("#7A3B00", "o"),
    "avif": ("#0072B2", "s"),
    "avif-s6-ssim": ("#56B4E9", "s"),
    "avif-s9": ("#003F66", "s"),
    "svtav1": ("#000000", "D"),
    "x265": ("#8B5FBF", "P"),
    "vvc": ("#5C4033", "X"),
    "webp": ("#009E73", "^"),
    "jpeg": ("#7F7F7F", "v"),
    "jxl": ("#CC79A7", "D"),
}


def style_of(codec: str) -> tuple[str, str]:
    """Colour and marker of a codec, by its name or that of its family (`avif` of `avif-s6+flow`)."""
    whole = codec.removesuffix("-best")
    family = codec.replace("+", "-").split("-")[0]
    return _STYLES.get(whole) or _STYLES.get(family, ("black", "x"))

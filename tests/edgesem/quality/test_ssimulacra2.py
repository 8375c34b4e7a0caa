"""SSIMULACRA2: the score of the reference program, and the same for a picture that is turned."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesem.errors import FrameError
from edgesem.files import find_pictures, read_picture
from edgesem.quality import ssimulacra2 as measure
from edgesem.quality.ssimulacra2 import ssimulacra2

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"

PICTURES = find_pictures(PHOTOS)


def pair(index: int, quality: int, height: int = 160, width: int = 203):
    """A piece of a photograph, and what a JPEG of that quality makes of it."""
    original = np.ascontiguousarray(read_picture(PICTURES[index])[:height, :width])
    data = io.BytesIO()
    Image.fromarray(original).save(data, "JPEG", quality=quality)
    return original, np.asarray(Image.open(data))


@pytest.mark.parametrize("quality", [5, 30, 90])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_is_turned_or_mirrored_has_the_same_score(quality, turns):
    original, decoded = pair(0, quality, 160, 192)  # where sizes are halved evenly
    score = ssimulacra2(original, decoded)
    assert ssimulacra2(np.rot90(original, turns), np.rot90(decoded, turns)) == pytest.approx(score, abs=0.01)
    assert ssimulacra2(original[:, ::-1], decoded[:, ::-1]) == pytest.approx(score, abs=0.01)


# Scores of libjxl 0.11.2, tools/ssimulacra2. On 80 pairs of a photograph and what JPEG, WebP or AVIF made of it ours
# differs by 0.16 at most, on 20 of next to flat frames of a camera by 0.9, probably as the reference is in float32.
@pytest.mark.parametrize(
    ("damage", "score"), [("grid", -49.864448), ("fine", 86.455586), ("blur", 50.806749), ("dark", 6.275099)]
)
def test_it_gives_the_score_of_the_reference_program(damage, score):
    y, x = np.mgrid[:256, :319]
    smooth = [128 + 90 * np.sin(x / 17 + y / 29), 128 + 70 * np.cos(x / 11), 40 + 120 * (x + y > 110)]
    noise = np.random.default_rng(0).integers(0, 40, (256, 319, 3), np.uint8)
    picture = np.stack(smooth, -1).astype(np.uint8) // 2 + noise
    shifted = (np.roll(picture, by, axis).astype(int) for by, axis in ((0, 0), (1, 0), (1, 1), (2, 1)))
    damaged = {
        "grid": picture // 64 * 64,
        "fine": picture // 8 * 8,
        "blur": (sum(shifted) // 4).astype(np.uint8),
        "dark": picture // 4 * 3,
    }[damage]
    assert ssimulacra2(picture, damaged) == pytest.approx(score, abs=0.03)


def test_equal_pictures_have_100_and_damage_lowers_the_score():
    original, _ = pair(1, 50)
    assert ssimulacra2(original, original) == 100
    scores = [ssimulacra2(*pair(1, quality)) for quality in (90, 60, 30, 10, 3)]
    assert scores == sorted(scores, reverse=True)
    assert 75 < scores[0] < 95
    assert scores[-1] < 0


def test_the_filter_is_normalised_and_has_the_spread_of_the_gaussian():
    taps = measure._taps()
    assert len(taps) == 9
    assert taps.sum() == pytest.approx(1)
    assert (taps * (np.arange(9) - 4) ** 2).sum() == pytest.approx(1.5**2)
    assert np.abs(taps - np.exp(-((np.arange(9) - 4) ** 2) / 4.5) / 3.7599).max() < 0.002


def test_with_the_borders_of_the_package_it_gives_the_score_of_the_package(monkeypatch):
    """All but the filter is the same as in the package of that name, which treats the borders in another way.

    The pictures are large enough for six scales: of smaller ones the package leaves the last scale out.
    """
    package = pytest.importorskip("ssimulacra2", reason="pip install 'edgesem[dev]'")
    from scipy import ndimage

    def blurred(planes):
        wide = np.pad(planes, ((0, 0), (0, 0), (5, 5)))
        made = [ndimage.gaussian_filter(plane, sigma=1.5, truncate=3.33, mode="reflect") for plane in wide]
        return np.stack(made)[:, :, 5:-5]

    monkeypatch.setattr(measure, "_blurred", blurred)
    for quality in (8, 75):
        files = []
        for picture in pair(2, quality, 256, 319):
            files.append(io.BytesIO())
            Image.fromarray(picture).save(files[-1], "BMP")
        assert ssimulacra2(*pair(2, quality, 256, 319)) == pytest.approx(package.compute_ssimulacra2(*files), abs=1e-3)


@pytest.mark.parametrize("shape", [(7, 64, 3), (64, 64), (64, 64, 4)])
def test_pictures_that_are_none_are_refused(shape):
    with pytest.raises(FrameError):
        ssimulacra2(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))

"""Pictures in full resolution beside the small ones: of what size, and with the same mask, turn and grey."""

import threading

import numpy as np
import pytest
from PIL import Image

from edgesem.errors import UsageError
from runtime.capture.privacy_mask import FILL
from runtime.capture.source import Source
from runtime.settings import SourceSettings

HALF = "[[area]]\npoints = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]\n"  # the left one


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (600, 800, 3), np.uint8)).save(folder / "a.png")
    return folder


def only_frame(folder, **settings):
    (frame,) = Source(SourceSettings(str(folder), **settings), fps=30, stop=threading.Event())
    return frame


def test_the_full_picture_is_kept_only_if_asked_for(folder):
    frame = only_frame(folder)
    assert (frame.image.shape, frame.full) == ((480, 640, 3), None)
    frame = only_frame(folder, detail="4096x4096")
    assert (frame.image.shape, frame.full.shape) == ((480, 640, 3), (600, 800, 3))
    frame = only_frame(folder, detail="720x540")
    assert frame.full.shape == (540, 720, 3)


@pytest.mark.parametrize("rotate", [0, 90])
def test_the_mask_hides_the_same_in_both(folder, tmp_path, rotate):
    (tmp_path / "mask.toml").write_text(HALF)
    frame = only_frame(folder, detail="800x600", mask=tmp_path / "mask.toml", rotate=rotate)
    for picture in (frame.image, frame.full):
        width = picture.shape[1]
        assert (picture[:, : width // 2] == FILL).all()
        assert picture[:, width // 2 + 10 :].std() > 20
    assert frame.full.shape == ((600, 800, 3) if rotate == 0 else (800, 600, 3))


def test_what_goes_as_grey_is_grey_in_both(folder):
    frame = only_frame(folder, detail="800x600", grey="on")
    for picture in (frame.image, frame.full):
        assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize("detail", ["1920", "1920x", "x", "1920x1080x3", "63x1080", "5000x1080", "-1x64", "320x240"])
def test_what_is_no_size_is_refused(detail):
    with pytest.raises(UsageError, match=r"source\.detail"):
        SourceSettings(detail=detail)

"""Parts of a full picture."""

import numpy as np
import pytest

from edgesem.errors import UsageError
from runtime.capture.frame import Frame
from runtime.sender.detail import MOST_PIXELS, DetailSlot, fit_bytes


def numbered(height, width):
    """A picture whose pixels say where they are: red is the row, green the column, by 256."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(height)[:, None] % 256, np.arange(width) % 256
    return picture


def kept(height=1080, width=1920):
    slot, full = DetailSlot(), numbered(height, width)
    small = slot.keep(Frame(full[::3, ::3], "camera", 7, full=full))
    assert small.full is None
    return slot


def test_a_part_is_cut_to_the_pixel_and_says_where_it_is():
    detail = kept().cut((0.25, 0.5, 0.25, 0.25), 2**40 + 5)
    assert detail.image.shape == (270, 480, 3)
    assert detail.image[0, 0].tolist() == [540 % 256, 480 % 256, 0]
    assert detail.detail.request == 5
    assert detail.detail.roi == pytest.approx((0.25, 0.5, 0.25, 0.25), abs=1e-4)
    assert (detail.name, detail.time_ms) == ("camera", 7)


@pytest.mark.parametrize("roi", [(0.0, 0.0, 1 / 64, 1 / 64), (0.984, 0.984, 0.016, 0.016)])
def test_a_small_part_is_enlarged_to_what_can_be_coded_and_says_so(roi):
    detail = kept().cut(roi, 1)
    assert detail.image.shape == (64, 64, 3)
    left, _, width, height = detail.detail.roi
    assert (width * 1920, height * 1080) == pytest.approx((64, 64), abs=0.1)
    assert left <= roi[0]
    assert left + width >= roi[0] + roi[2] - 1e-4


def test_shares_are_of_what_the_stream_shows():
    detail = kept().cut((0.5, 0.0, 0.5, 1.0), 1, within=(0.5, 0.5, 0.5, 0.5))
    assert detail.image.shape == (540, 480, 3)
    assert detail.image[0, 0].tolist() == [540 % 256, 1440 % 256, 0]
    assert detail.detail.roi == pytest.approx((0.5, 0.0, 0.5, 1.0), abs=1e-4)


def test_without_a_full_picture_there_is_no_part():
    slot = DetailSlot()
    slot.keep(Frame(numbered(64, 64), "camera", 7))
    assert slot.size is None
    with pytest.raises(UsageError, match="--detail"):
        slot.cut((0, 0, 1, 1), 1)


@pytest.mark.parametrize(("size_bytes", "height", "width"), [(65535, 3000, 4000), (300, 480, 640), (256, 64, 4000)])
def test_what_its_bytes_cannot_show_is_shrunk(size_bytes, height, width):
    shrunk = fit_bytes(numbered(height, width), size_bytes)
    assert shrunk.shape[0] * shrunk.shape[1] <= MOST_PIXELS
    assert min(shrunk.shape[:2]) >= 64
    assert shrunk.shape[0] < height or shrunk.shape[1] < width


def test_what_they_can_show_is_not():
    picture = numbered(480, 640)
    assert fit_bytes(picture, 8000) is picture

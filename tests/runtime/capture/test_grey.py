"""Grey pictures: what has no colour is sent as grey, what has a little is not, and grey needs fewer bytes."""

import threading

import numpy as np
import pytest
from PIL import Image

from edgesem.codec.codec import load
from edgesem.files import find_pictures, read_picture
from edgesem.picture import as_grey
from runtime.capture.frame import PHOTOS
from runtime.capture.grey import GreyFilter
from runtime.capture.source import Source
from runtime.settings import SourceSettings


def infra_red(seed=1, noise=4.0):
    """A night picture: no colour but noise, and that of its compression."""
    rng = np.random.default_rng(seed)
    grey = as_grey(read_picture(find_pictures(PHOTOS)[4], fit=(320, 240)))
    return (grey + rng.normal(0, noise, grey.shape)).clip(0, 255).astype(np.uint8)


def is_grey(picture):
    return bool((picture == picture[..., :1]).all())


def test_a_picture_without_colour_becomes_grey_and_one_with_a_red_lamp_does_not():
    camera = GreyFilter("auto")
    assert is_grey(camera.apply(infra_red()))
    assert camera.grey
    lamp = infra_red()
    lamp[100:106, 100:106] = 120, 20, 20
    assert camera.apply(lamp) is lamp
    assert not camera.grey


@pytest.mark.parametrize(("mode", "grey"), [("on", True), ("off", False), ("auto", False)])
def test_the_mode_is_kept_for_colour_pictures(tmp_path, mode, grey):
    Image.fromarray(read_picture(find_pictures(PHOTOS)[0], fit=(160, 120))).save(tmp_path / "a.png")
    source = Source(SourceSettings(uri=str(tmp_path), grey=mode), fps=60, stop=threading.Event())
    (frame,) = source
    assert is_grey(frame.image) is source.grey is grey


def test_from_grey_to_colour_it_goes_with_hysteresis():
    between = np.zeros((64, 64, 3), np.uint8)
    between[..., 0] = 8
    camera = GreyFilter("auto")
    assert camera.apply(between) is between
    camera.apply(np.zeros_like(between))
    assert is_grey(camera.apply(between))


def test_grey_needs_fewer_bytes_at_the_same_quality():
    """The figure in docs/guides/send.md."""
    codec, sizes = load(), {"colour": 0, "grey": 0}
    for path in find_pictures(PHOTOS)[:4]:
        picture = read_picture(path)
        for name, shown in (("colour", picture), ("grey", GreyFilter("on").apply(picture))):
            sizes[name] += codec.pack(codec.analyze(shown), quality=0.5).size_bytes
    assert sizes["grey"] < 0.95 * sizes["colour"]

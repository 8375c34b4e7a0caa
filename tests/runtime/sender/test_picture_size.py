"""Picture size: a link too thin for the whole picture gets a smaller one, a better one gets it back."""

import numpy as np
import pytest
from PIL import Image

import edgesem
from edgesem.files import find_pictures, read_picture
from edgesem.quality.metrics import ms_ssim
from runtime.capture.frame import PHOTOS
from runtime.sender.picture_size import PictureSize
from tests.support.sender_bench import Control, SimulatedSender


class Film(SimulatedSender):
    """A sender with the real codec, whose frames get the bytes that the test says."""

    def __init__(self, **options):
        super().__init__(codec=edgesem.load(), control=Control(interval_s=1.0), most_receivers=0, **options)

    def budgeted(self, picture, count, budget_bytes):
        """What became of so many frames with this budget."""
        self.control.budget = budget_bytes
        return [one["event"] for one in self.show(count, picture=picture) if one["event"] in ("packed", "resized")]


@pytest.fixture(scope="module")
def detailed():
    photo = read_picture(find_pictures(PHOTOS)[4])
    return np.asarray(Image.fromarray(photo).resize((640, 480)))


def test_a_few_hundred_bytes_a_frame_bring_a_smaller_picture_and_many_the_whole_one_again(detailed):
    film = Film()
    film.budgeted(detailed, 8, 700)
    percent = film.pipeline.state().shrunk_percent
    assert percent < 100
    assert percent in [event.percent for event in film.told if event.event == "resized"]
    assert film.budgeted(detailed, 8, 700) == ["packed"] * 8  # it stays there, and no frame is left out
    film.budgeted(detailed, 20, 20_000)
    assert film.pipeline.state().shrunk_percent == 100


def test_where_bytes_suffice_nothing_is_shrunk(detailed):
    film = Film()
    assert film.budgeted(detailed, 10, 4000) == ["packed"] * 10
    assert film.pipeline.state().shrunk_percent == 100


def test_who_sets_a_least_quality_gets_no_smaller_picture(detailed):
    film = Film(min_quality=0.5)
    film.budgeted(detailed, 10, 700)
    assert film.pipeline.state().shrunk_percent == 100


def test_a_smaller_picture_looks_better_at_the_same_few_bytes(detailed):
    codec, scores = edgesem.load(), []
    for size in ((640, 480), (320, 240)):
        picture = np.asarray(Image.fromarray(detailed).resize(size, Image.Resampling.LANCZOS))
        packet = codec.pack(codec.analyze(picture), budget_bytes=1600)
        drawn = Image.fromarray(codec.synthesize(codec.unpack(packet))).resize((640, 480), Image.Resampling.BICUBIC)
        scores.append(ms_ssim(detailed, np.asarray(drawn)))
    assert scores[1] > scores[0]


def test_it_changes_with_hysteresis_and_never_below_64_pixels():
    size = PictureSize()
    for q in [60, 140] * 20:
        assert not size.coded(q, 640, 480)
    for _ in range(40):
        size.coded(0, 160, 120)
    assert size.share == 0.7
    while size.did_not_fit(640, 480):
        pass
    assert size.share == 0.25
    for _ in range(40):
        size.coded(255, 640, 480)
    assert size.share == 1.0

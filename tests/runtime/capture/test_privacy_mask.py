"""Privacy mask: nothing of what it hides is in a frame, whatever the frame goes through; and its file is checked."""

import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from edgesem.codec.codec import load
from edgesem.errors import InputError, UsageError
from edgesem.files import find_pictures, read_picture
from runtime.capture.frame import PHOTOS
from runtime.capture.privacy_mask import FILL, PrivacyMask
from runtime.capture.source import Source
from runtime.settings import SourceSettings

AREA = "[[area]]\nname = 'the neighbours'\npoints = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]\n"
SIDE = st.floats(0, 1)


def frames(folder, mask, **settings):
    about = SourceSettings(uri=str(folder), mask=mask, **settings)
    return [frame.image for frame in Source(about, fps=60, stop=threading.Event())]


@pytest.fixture
def mask(tmp_path):
    path = tmp_path / "mask.toml"
    path.write_text(AREA)
    return path


@pytest.mark.parametrize("size", [(160, 120), (640, 480), (333, 250)])
@pytest.mark.parametrize("rotate", [0, 90])
def test_two_scenes_that_differ_in_what_is_hidden_give_the_same_frames(tmp_path, mask, size, rotate):
    rng = np.random.default_rng(1)
    scene = rng.integers(0, 256, (600, 800, 3), np.uint8)
    seen = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        scene[150:450, 200:600] = rng.integers(0, 256, (300, 400, 3), np.uint8) if number else 255
        Image.fromarray(scene).save(folder / "scene.png")
        seen += frames(folder, mask, width=size[0], height=size[1], rotate=rotate)
    assert (seen[0] == seen[1]).all()
    height, width = seen[0].shape[:2]
    assert (seen[0][height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] == FILL).all()
    assert seen[0][: height // 8].std() > 5  # the rest is there


@example(points=[(1.0, 0.0), (1.0, 1.0), (0.9375, 0.0)])  # outside of the picture by less than a pixel
@given(points=st.lists(st.tuples(SIDE, SIDE), min_size=3, max_size=6, unique=True))
def test_each_pixel_inside_of_a_convex_polygon_and_around_its_outline_is_hidden(points):
    centre = np.mean(points, 0)
    points = tuple(sorted(points, key=lambda one: np.arctan2(one[1] - centre[1], one[0] - centre[0])))
    hidden = PrivacyMask((points,)).hidden(60, 80)
    for share in np.linspace(0, 1, 5):
        for corner, following in zip(points, [*points[1:], points[0]], strict=True):
            on_outline = np.array(corner) * (1 - share) + np.array(following) * share
            for towards_centre in np.linspace(0, 1, 5):
                x, y = on_outline * (1 - towards_centre) + centre * towards_centre
                assert hidden[min(59, int(y * 60)), min(79, int(x * 80))]


def test_where_an_outline_crosses_itself_or_areas_overlap_all_of_it_is_hidden():
    around_twice = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)) * 2
    assert PrivacyMask((around_twice,)).hidden(100, 100)[50, 50]
    left, right = ((0.0, 0.0), (0.6, 0.0), (0.6, 1.0), (0.0, 1.0)), ((0.4, 0.0), (1.0, 0.0), (1.0, 1.0), (0.4, 1.0))
    assert PrivacyMask((left, right)).hidden(100, 100).all()


def test_the_picture_that_is_given_stays_as_it_is(mask):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture.flags.writeable = False
    masked = PrivacyMask.load(mask).apply(picture)
    assert not picture.any()
    assert (masked[32, 32] == FILL).all()
    assert not masked[0, 0].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there must be"),
        ("[[areas]]\npoints = []", "unknown key"),
        (AREA + "[seal]\nkey = 1", "unknown key"),
        ("area = 3", "there must be"),
        ("[[area]]\npoints = [[0, 0], [1, 1]]", "3 to 256 points"),
        ("[[area]]\npoints = [[0, 0], [320, 0], [320, 240]]", "shares of the picture"),
        ("[[area]]\npoints = [[0, 0], [nan, 0], [1, 1]]", "shares of the picture"),
        ("[[area]]\npoints = [[0, 0], [0.5, 0.5], [1, 1]]", "on one line"),
        ("[[area]]\npoint = [[0, 0], [1, 0], [1, 1]]", "keys besides"),
        ("[[area]]\nname = 1\npoints = [[0, 0], [1, 0], [1, 1]]", "must be text"),
        ("[[area]\n", "not TOML"),
    ],
)
def test_a_file_that_is_no_mask_lets_no_frame_out(tmp_path, text, words):
    path = tmp_path / "mask.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        frames(PHOTOS, path)


def test_a_mask_that_cannot_be_read_lets_no_frame_out(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        frames(PHOTOS, tmp_path / "none.toml")


def test_what_is_hidden_costs_next_to_nothing():
    """The figures in docs/guides/privacy.md."""
    codec = load()
    area = ((0.1, 0.1), (0.6, 0.1), (0.6, 0.85), (0.1, 0.85))  # 38 % of the picture
    sizes = {"whole": 0, "masked": 0, "all hidden": 0}
    for path in find_pictures(PHOTOS)[:4]:
        picture = read_picture(path)
        masked = PrivacyMask((area,)).apply(picture)
        for name, shown in (("whole", picture), ("masked", masked), ("all hidden", np.full_like(picture, FILL))):
            sizes[name] += codec.pack(codec.analyze(shown), quality=0.5).size_bytes
    assert sizes["masked"] < 0.85 * sizes["whole"]
    assert sizes["all hidden"] < 0.2 * sizes["whole"]

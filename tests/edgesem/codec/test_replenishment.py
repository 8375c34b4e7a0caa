"""Conditional replenishment: what has not changed is not seen again, and what has changed is."""

from pathlib import Path

import numpy as np
import pytest

import edgesem
from edgesem.codec.copying import Copying
from edgesem.codec.replenishment import WHOLE_EVERY, WHOLE_FIRST, Replenishment, _differences
from edgesem.files import read_picture

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"
LEVEL = 140


@pytest.fixture(scope="module")
def codec():
    return edgesem.load()


@pytest.fixture(scope="module")
def street():
    return read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[:400, :490]


class Camera:
    """A sender's encoder, and what its network has seen."""

    def __init__(self, codec):
        self.codec, self.seen = codec, []
        self.scene = Replenishment(self._analyze)

    def _analyze(self, frame):
        self.seen.append(frame.shape[:2])
        return self.codec.analyze(frame)

    def look(self, *frames):
        for frame in frames:
            latent = self.scene.analyze(frame)
        return latent

    def off_steps(self, latent, frame):
        """How far a latent is from that of the whole frame, at the most, in quantizer steps at LEVEL."""
        apart = np.abs(latent.values - self.codec.analyze(frame).values)
        return float((apart * self.codec.bundle.gain[LEVEL][:, None, None]).max())


def noisy(picture, seed, grey=1.5):
    noise = np.random.default_rng(seed).normal(0, grey, picture.shape)
    return np.rint((picture + noise).clip(0, 255)).astype(np.uint8)


def test_the_same_frame_again_is_not_seen_again(codec, street):
    camera = Camera(codec)
    first = camera.look(street)
    assert all(camera.look(street.copy()) is first for _ in range(3 * WHOLE_EVERY))
    assert len(camera.seen) == 1


@pytest.mark.parametrize("grey", [0.5, 2.5])
def test_noise_is_no_change_but_is_looked_through_now_and_then(codec, street, grey):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed, grey) for seed in range(WHOLE_FIRST)))
    latent = camera.scene.analyze(noisy(street, 50, grey))
    camera.look(*(noisy(street, seed, grey) for seed in range(100, 98 + WHOLE_EVERY)))
    assert camera.seen == [street.shape[:2]] * WHOLE_FIRST
    renewed = camera.look(noisy(street, 200, grey))
    assert len(camera.seen) == WHOLE_FIRST + 1
    assert renewed is not latent


@pytest.mark.parametrize("place", [(0, 0), (160, 240), (352, 442)])  # the last one ends within a block
def test_what_moves_is_seen_where_it_is(codec, street, place):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed, 0.5) for seed in range(WHOLE_FIRST)), street)
    top, left = place
    for shade in (250, 5):
        frame = street.copy()
        frame[top : top + 48, left : left + 48] = shade
        camera.seen.clear()
        latent = camera.look(frame)
        (height, width), *others = camera.seen
        assert not others
        assert height * width < 0.4 * frame.shape[0] * frame.shape[1]
    still = codec.bundle.gain[LEVEL][:, None, None] * np.abs(latent.values - codec.analyze(frame).values)
    still[:, max(0, top // 16 - 2) : top // 16 + 5, max(0, left // 16 - 2) : left // 16 + 5] = 0
    near = camera.off_steps(latent, frame)
    assert still.max() < 0.5  # noise of the frames before
    assert near < 0.5
    assert (latent.width, latent.height) == (frame.shape[1], frame.shape[0])


def test_without_noise_a_part_is_as_good_as_the_whole(codec, street):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed, 0.5) for seed in range(WHOLE_FIRST)))
    camera.scene = Replenishment(camera._analyze)
    camera.scene.analyze(street)
    camera.scene._whole_frames = WHOLE_FIRST
    frame = street.copy()
    frame[100:180, 200:300] = frame[300:380, 30:130]
    latent = camera.look(frame)
    assert camera.seen[-1] != frame.shape[:2]
    assert camera.off_steps(latent, frame) < 0.12


def test_light_that_changes_slowly_is_seen(codec, street):
    camera = Camera(codec)
    for number in range(60):
        frame = noisy(street * (1 - 0.003 * number), number)
        latent = camera.look(frame)
    shade = codec.analyze(frame).values[0] - latent.values[0]
    assert abs(float(shade.mean())) < 3 / 255 * 16  # of a channel that has the mean of 16x16 pixels, times 16


def test_another_size_or_another_view_is_seen_whole(codec, street):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed) for seed in range(5)))
    camera.seen.clear()
    camera.look(street[:200, :300])
    assert camera.seen == [(200, 300)]
    camera.look(*(noisy(street[:200, :300], seed) for seed in range(5)))
    camera.seen.clear()
    other = street[200:400, 190:490]
    assert camera.off_steps(camera.look(other), other) == 0


def test_after_an_error_all_is_seen_again(codec, street):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed, 0.5) for seed in range(WHOLE_FIRST)))
    frame = street.copy()
    frame[64:96, 64:96] = 255
    camera.codec = None
    with pytest.raises(AttributeError):
        camera.look(frame)
    camera.codec = codec
    assert camera.off_steps(camera.look(frame), frame) == 0


def test_a_sender_learns_the_noise_all_the_same(codec, street):
    camera, copying, whole = Camera(codec), Copying(), Copying()
    for seed in range(20):
        frame = noisy(street, seed)
        copying.look(camera.look(frame))
        whole.look(codec.analyze(frame))
    assert float(np.median(copying.noise / whole.noise)) == pytest.approx(1, abs=0.5)


def person(picture, left, grey):
    """A street with something 2 positions large, hardly brighter than what is behind it."""
    frame = picture.astype(float)
    frame[100:132, left : left + 16] += grey
    return frame


@pytest.mark.parametrize(("grey", "noise", "most"), [(12, 2, 1.2), (6, 2.5, 2)])
def test_what_is_hardly_brighter_and_slow_is_seen_where_it_is(codec, street, grey, noise, most):
    """It fills a block so slowly that its change might pass for noise that grows, and its edges for noise."""
    camera, dusk = Camera(codec), 0.35 * street[:192, :256] + 10
    camera.look(*(noisy(dusk, seed, noise) for seed in range(20)))
    behind = []
    for number in range(40):
        camera.look(noisy(person(dusk, 60 + number // 2, grey), 100 + number, noise))
        off = camera.scene._picture - person(dusk, 60 + number // 2, grey)
        behind.append(np.abs(off.reshape(12, 16, 16, 16, 3).mean((1, 3, 4))).max())
    assert max(behind) < most


def test_light_that_changes_slowly_below_the_noise_is_seen(codec, street):
    camera, scene = Camera(codec), 0.6 * street[:192, :256] + 20
    for number in range(60):
        camera.look(noisy(scene - 0.1 * max(0, number - 8), number, 2.5))
        if number > 8:
            assert abs(np.mean(camera.scene._picture - scene) + 0.1 * (number - 8)) < 0.8


@pytest.mark.parametrize("top", range(100, 104))
def test_what_is_three_pixels_high_is_seen_within_four_frames(codec, street, top):
    camera = Camera(codec)
    camera.look(*(noisy(street, seed, 0.5) for seed in range(WHOLE_FIRST)), street)
    frame = street.copy()
    frame[top : top + 3, 100:164] = 255
    assert camera.off_steps(camera.look(*[frame] * 4), frame) < 0.5


def test_a_change_in_rows_that_were_not_looked_at_is_no_still_picture(codec):
    camera = Camera(codec)
    grey = np.full((64, 96, 3), 90, np.uint8)
    camera.look(grey)
    lined = grey.copy()
    lined[33] = 200
    assert camera.off_steps(camera.look(lined, lined), lined) < 0.5


def test_the_frame_and_the_latent_are_not_the_callers_to_spoil(codec, street):
    """A camera's buffer is written over; a read-only, mirrored view is a frame as any."""
    camera, buffer = Camera(codec), street.copy()
    first = camera.look(buffer)
    buffer[:] = 0
    frame = np.broadcast_to(street, street.shape)
    assert camera.look(frame) is first
    mirrored = street[:, ::-1]
    assert camera.off_steps(camera.look(mirrored), mirrored) == 0


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("shape", [(16, 16), (100, 70), (33, 47), (64, 128)])
def test_differences_are_means_over_blocks_also_at_the_edges(shape, first):
    random = np.random.default_rng(7)
    a, b = (random.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(2))
    rows = -(-shape[0] // 16)
    off, mean_off = _differences(a[first:], b[first:], rows)
    assert off.shape == mean_off.shape[:2] == (rows, -(-shape[1] // 16))
    for row, column in np.ndindex(off.shape):
        block = np.s_[row * 16 + first : row * 16 + 16 : 4, column * 16 : column * 16 + 16]
        apart = a[block].astype(float) - b[block]
        if not apart.size:
            apart = np.zeros((1, 1, 3))
        assert off[row, column] == pytest.approx(np.abs(apart).mean(), rel=1e-5)
        assert mean_off[row, column] == pytest.approx(apart.mean((0, 1)), rel=1e-4, abs=1e-4)

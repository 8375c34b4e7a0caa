"""Drawing by steps and by tiles, with a stand-in for the network so that the right answer is known."""

import numpy as np
import pytest

from edgesem.codec import flow
from edgesem.entropy.schedule import CHANNELS


def base_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((3, height, width), np.float32)


def latent_of(height: int, width: int) -> np.ndarray:
    return np.zeros((CHANNELS, height // 16, width // 16), np.float32)


def redraw(base, run, steps=1, seed=0):
    return flow.redraw(base, latent_of(*base.shape[1:]), run, quality=0.5, steps=steps, seed=seed)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_end_at_what_the_network_expects(steps):
    base = base_of(64, 80)
    end = redraw(base, lambda feed: feed["base"][0] * 0 + 0.25, steps)
    assert np.allclose(end, 0.25, atol=1e-6)


def test_the_steps_walk_a_straight_path():
    seen = []

    def run(feed):
        seen.append((float(feed["time"].item()), feed["state"][0, :, :64, :64].copy()))
        return np.ones_like(feed["base"][0])

    redraw(base_of(64, 64), run, 4)
    assert [time for time, _ in seen] == [0.0, 0.25, 0.5, 0.75]
    start = seen[0][1]
    for time, state in seen:
        assert np.allclose(state, start + time * (1 - start), atol=1e-5)


def test_the_same_seed_draws_the_same_and_another_something_else():
    base = base_of(48, 64)
    first, again, other = (redraw(base, lambda feed: feed["state"][0], seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > flow.NOISE


@pytest.mark.parametrize("size", [(16, 16), (1024, 1024), (1040, 2000), (2200, 1920)])
def test_tiles_join_without_a_trace(size):
    picture = base_of(*size)
    pieces = []

    def draw(top, left, bottom, right):
        assert top % 128 == left % 128 == 0
        pieces.append((bottom - top, right - left))
        return picture[:, top:bottom, left:right]

    assert np.allclose(flow.by_tiles(*size, draw), picture, atol=1e-6)
    assert max(max(piece) for piece in pieces) <= flow.TILE


def test_where_neighbouring_tiles_disagree_one_fades_into_the_other():
    shades = iter((0.0, 1.0))
    picture = flow.by_tiles(
        128, 1800, lambda top, left, end, right: np.full((3, end - top, right - left), next(shades), np.float32)
    )
    steps = np.diff(picture[0, 0])
    assert picture.min() == 0
    assert picture.max() == 1
    assert 0 <= steps.min() <= steps.max() < 2 / flow.OVERLAP


def test_the_network_always_gets_whole_windows():
    def run(feed):
        assert feed["state"].shape == feed["base"].shape
        assert feed["state"].shape[2] % flow.WINDOW == feed["state"].shape[3] % flow.WINDOW == 0
        assert feed["latent"].shape[2] * 16 == feed["state"].shape[2]
        return feed["base"][0]

    assert redraw(base_of(48, 176), run, 2).shape == (3, 48, 176)

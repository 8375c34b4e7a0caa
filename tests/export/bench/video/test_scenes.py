"""Scenes of known change: what changes in each, and where they say so."""

import numpy as np
import pytest

from export.bench.video.scenes import LIGHT, NOISE, SPEED, crossed, identical, lighter, noisy, positions_of, scenes


@pytest.fixture(scope="module")
def frame():
    rows, columns = np.mgrid[0:100, 0:150]
    grey = 60 + rows + columns // 3
    return np.stack([grey, grey // 2, 255 - grey], 2).astype(np.uint8)


def test_noise_is_new_in_each_frame_and_the_same_in_each_run(frame):
    first, second = noisy(frame, 2)
    off = first.astype(float) - frame
    assert np.std(off) == pytest.approx(NOISE, rel=0.1)
    assert abs(np.corrcoef(off.ravel(), (second.astype(float) - frame).ravel())[0, 1]) < 0.02
    assert all(np.array_equal(a, b) for a, b in zip(noisy(frame, 2), (first, second), strict=True))


def test_light_grows_by_its_share_each_time(frame):
    means = [float(one.mean()) for one in lighter(frame, 4)]
    assert np.diff(means) == pytest.approx(LIGHT * frame.mean(), rel=0.1)


def test_all_that_an_object_changes_lies_where_it_says(frame):
    frames, touched = crossed(frame, 3)
    for before, now, mask in zip(frames, frames[1:], touched[1:], strict=False):
        changed = (before != now).any(2)
        assert changed.any()
        assert not (positions_of(changed) & ~mask).any()
        assert mask.mean() < 0.4
    start = [np.flatnonzero((one != frame).any((0, 2)))[0] for one in frames]
    assert np.diff(start) == pytest.approx(SPEED, abs=1)


def test_each_scene_has_a_mask_for_each_frame(frame):
    made = scenes(frame, 3)
    assert set(made) == {"identical", "noise", "light", "object"}
    for frames, masks in made.values():
        assert len(frames) == len(masks) == 3
        assert all(mask.shape == (7, 10) for mask in masks)
    assert not made["identical"][1][0].any()
    assert made["light"][1][0].all()
    assert all(one is frame for one in identical(frame, 3))

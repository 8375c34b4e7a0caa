"""Estimates from samples: near the known truth of made-up sources, and refused where they would mean nothing."""

import math

import numpy as np
import pytest

from edgesem.errors import EstimateError, UsageError
from edgesem.information import estimate
from tests.support import closed_forms


def flipped(random, count, flip):
    bits = random.integers(0, 2, count)
    return bits, bits ^ (random.random(count) < flip)


def test_information_between_labels_is_near_the_truth_and_the_interval_holds_it():
    random, truth, inside, found = np.random.default_rng(1), 1 - closed_forms.binary_entropy(0.1), 0, []
    for _ in range(40):
        result = estimate.mutual_information(*flipped(random, 200, 0.1), resamples=100)
        inside += result.low_bits <= truth <= result.high_bits
        found.append(result.bits)
    assert np.mean(found) == pytest.approx(truth, abs=0.03)
    assert inside >= 34  # of 40, for 95 %


def test_the_correction_takes_away_what_chance_alone_shows():
    random = np.random.default_rng(2)
    results = [
        estimate.mutual_information(random.integers(0, 6, 200), random.integers(0, 6, 200), resamples=10)
        for _ in range(40)
    ]
    assert np.mean([r.plugin_bits for r in results]) > 0.07
    assert np.mean([r.bits for r in results]) < 0.03


def test_entropy_of_labels():
    random = np.random.default_rng(3)
    found = estimate.entropy([str(i) for i in random.integers(0, 16, 500)])
    assert found.low_bits <= 4 <= found.high_bits
    assert abs(found.bits - 4) < abs(found.plugin_bits - 4)
    assert found.cells == 16


def test_equal_labels_share_all_they_have():
    labels = np.arange(100) % 4
    found = estimate.mutual_information(labels, labels)
    assert found.bits == pytest.approx(2, abs=0.03)
    assert estimate.mutual_information(labels, np.zeros(100)).bits == 0


def test_infonce_stays_below_its_ceiling_and_says_so():
    random = np.random.default_rng(4)
    x = random.normal(size=(64, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    same = estimate.infonce(x @ x.T)
    assert same.ceiling_bits == 6
    assert same.bits <= 6
    assert same.saturated
    other = estimate.infonce(random.normal(size=(64, 8)) @ x.T)
    assert other.bits < 0.3
    assert not other.saturated


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_infonce_with_the_true_critic_is_a_bound_of_the_gaussian(correlation):
    random, found = np.random.default_rng(5), []
    for _ in range(20):
        x, noise = random.normal(size=(2, 200))
        y = correlation * x + math.sqrt(1 - correlation**2) * noise
        given_x = -((y[None] - correlation * x[:, None]) ** 2) / (2 * (1 - correlation**2))
        found.append(estimate.infonce(given_x + y[None] ** 2 / 2, temperatures=(1.0,)).bits)
    truth = closed_forms.gaussian_information(correlation)
    assert truth - 0.1 < np.mean(found) < truth + 0.02


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_nearest_neighbours_find_the_gaussian(correlation):
    random = np.random.default_rng(6)
    x, noise = random.normal(size=(2, 1000))
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    assert estimate.ksg(x, y) == pytest.approx(closed_forms.gaussian_information(correlation), abs=0.1)


def test_spectral_entropy_counts_different_things():
    groups = np.repeat(np.eye(4), 8, axis=0)
    assert estimate.spectral_entropy(groups @ groups.T) == pytest.approx(2)
    assert estimate.spectral_entropy(np.ones((9, 9))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (lambda r: estimate.entropy(range(100)), "unseen"),
        (lambda r: estimate.entropy([0, 1] * 10), "20 samples"),
        (lambda r: estimate.mutual_information(np.arange(128) % 8, np.arange(128) % 8), "320 are the least"),
        (lambda r: estimate.mutual_information([0, 1] * 12, [0, 1] * 12), "24 samples"),
        (lambda r: estimate.infonce(np.eye(10)), "10 samples"),
        (lambda r: estimate.ksg(r.normal(size=50), r.normal(size=50)), "50 samples"),
        (lambda r: estimate.ksg(r.normal(size=(200, 4)), r.normal(size=(200, 3))), "7 dimensions"),
        (lambda r: estimate.ksg(np.arange(200.0), np.arange(200.0)), "cannot show"),
    ],
)
def test_too_little_is_refused(refused, reason):
    with pytest.raises(EstimateError, match=reason):
        refused(np.random.default_rng(7))


def test_as_many_sets_as_the_samples_bear():
    for samples in (30, 128, 508):
        sets = estimate.sets_that_fit(samples)
        labels = np.arange(samples) % sets
        assert estimate.mutual_information(labels, labels, resamples=10).cells == sets**2
        with pytest.raises(EstimateError):
            estimate.mutual_information(np.arange(samples) % (sets + 1), np.arange(samples) % (sets + 1))
    assert estimate.sets_that_fit(24) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: estimate.entropy([]),
        lambda: estimate.mutual_information([1, 2], [1]),
        lambda: estimate.infonce(np.full((40, 40), math.nan)),
        lambda: estimate.ksg(np.zeros(100), np.zeros(99)),
        lambda: estimate.spectral_entropy(np.zeros((3, 3))),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(wrong):
    with pytest.raises(UsageError):
        wrong()

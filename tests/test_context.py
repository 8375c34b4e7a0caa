import numpy as np
import pytest

from edgesem.context import CHANNELS, GROUPS, MEAN_GRID, PASSES, VALUE_LIMIT, ContextModel


class Flat:
    """Expects mean 3/8 and scale 7 everywhere, and remembers what it was shown."""

    def __init__(self, outputs):
        self.outputs, self.shown = outputs, None

    def run(self, feed):
        self.shown = feed["values"].copy()
        shape = (1, self.outputs, *feed["values"].shape[2:])
        return {"mean": np.full(shape, 3, np.float32), "scale": np.full(shape, 7, np.float32)}


def flat_model():
    runners = [Flat(sweep.stop - sweep.start) for sweep in PASSES]
    return ContextModel(runners), runners


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 7), (32, 48)])
def test_the_schedule_visits_every_symbol_exactly_once(shape):
    visits = np.zeros((CHANNELS, *shape), int)
    for sweep in PASSES:
        visits[sweep.start : sweep.stop] += sweep.mask(*shape)
    assert (visits == 1).all()


def test_groups_are_whole_layers_in_order():
    assert [p.group for p in PASSES] == sorted(p.group for p in PASSES)
    assert sum(GROUPS) == CHANNELS


def test_a_pass_sees_only_what_was_decoded_before_it():
    model, runners = flat_model()
    model.walk(np.full((8, 8), 100, np.int32), 4, lambda index, mean, scale: np.ones_like(mean))
    known = np.zeros((CHANNELS, 8, 8), bool)
    for sweep, runner in zip(PASSES, runners, strict=True):
        assert np.array_equal(runner.shown[0] != 0, known)
        known[sweep.start : sweep.stop] |= sweep.mask(8, 8)


def test_symbols_are_added_to_means_and_missing_layers_become_their_means():
    model, _ = flat_model()
    values = model.walk(np.full((4, 4), 100, np.int32), 2, lambda index, mean, scale: np.full_like(mean, 2))
    arrived = sum(GROUPS[:2])
    assert (values[:arrived] == 3 + 2 * MEAN_GRID).all()
    assert (values[arrived:] == 3).all()


def test_values_stay_within_what_the_integer_bound_rests_on():
    model, _ = flat_model()
    values = model.walk(np.full((4, 4), 100, np.int32), 4, lambda index, mean, scale: np.full_like(mean, 10**6))
    assert np.abs(values).max() == VALUE_LIMIT

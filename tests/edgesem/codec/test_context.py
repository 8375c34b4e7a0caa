"""Context model: the walk over the pass schedule, and what each network is fed."""

import numpy as np
import pytest

from edgesem.codec.context import ContextModel
from edgesem.entropy.schedule import CHANNELS, GROUPS, MEAN_GRID, PASSES, PERIOD, VALUE_LIMIT


class Flat:
    """Expects mean 3/8 and scale 7 at each position of its pass, and remembers what it was shown."""

    def __init__(self, sweep):
        self.sweep, self.shown = sweep, None

    def run(self, feed):
        (self.shown,) = (planes[0, 2:].copy() for name, planes in feed.items() if name in ("values", "coarse"))
        shape = (1, self.sweep.stop - self.sweep.start, 1, self.sweep.mask(*self.shown.shape[1:]).sum())
        return {"mean": np.full(shape, 3, np.float32), "scale": np.full(shape, 7, np.float32)}


def flat_model():
    runners = [Flat(sweep) for sweep in PASSES]
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


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (1, 1)])
def test_a_pass_sees_only_what_was_decoded_before_it_and_nothing_beyond_the_picture(shape):
    model, runners = flat_model()
    model.walk(np.full(shape, 100, np.int32), 4).through(4, lambda index, mean, scale: mean + MEAN_GRID)
    beyond = [(0, -side % PERIOD) for side in shape]
    known = np.zeros((CHANNELS, *shape), bool)
    for sweep, runner in zip(PASSES, runners, strict=True):
        if sweep.mask(*shape).any():
            assert np.array_equal(runner.shown != 0, np.pad(known, ((0, 0), *beyond))[: sweep.seen])
        else:
            assert runner.shown is None  # nothing is asked of it
        assert not known[sweep.seen :].any()
        known[sweep.start : sweep.stop] |= sweep.mask(*shape)


@pytest.mark.parametrize("shape", [(8, 12), (5, 7), (3, 1)])
def test_symbols_stand_row_by_row_whatever_the_phases_of_a_pass(shape):
    """Each symbol says where it belongs, and is found there."""
    model, _ = flat_model()
    place = np.arange(CHANNELS * shape[0] * shape[1]).reshape(CHANNELS, *shape) % 200

    def fill(index, mean, scale):
        sweep = PASSES[index]
        return mean + MEAN_GRID * place[sweep.start : sweep.stop, sweep.mask(*shape)].ravel()

    values = model.walk(np.full(shape, 100, np.int32), 4).values(fill)
    assert np.array_equal(values, 3 + MEAN_GRID * place)


def test_a_pass_reads_what_it_wrote():
    planes = np.zeros((CHANNELS, 8, 12), np.float32)
    for number, sweep in enumerate(PASSES, 1):
        part = number * 1000 + np.arange((sweep.stop - sweep.start) * sweep.mask(8, 12).sum(), dtype=np.float32)
        sweep.write(planes, part.reshape(sweep.stop - sweep.start, -1))
        assert np.array_equal(sweep.read(planes).ravel(), part)
    assert (planes >= 1000).all()


def test_symbols_are_added_to_means_and_missing_layers_become_their_means():
    model, _ = flat_model()
    values = model.walk(np.full((4, 4), 100, np.int32), 2).values(lambda index, mean, scale: mean + 2 * MEAN_GRID)
    arrived = sum(GROUPS[:2])
    assert (values[:arrived] == 3 + 2 * MEAN_GRID).all()
    assert (values[arrived:] == 3).all()


def test_values_stay_within_what_the_integer_bound_rests_on():
    model, _ = flat_model()
    values = model.walk(np.full((4, 4), 100, np.int32), 4).values(lambda index, mean, scale: mean + 10**6)
    assert np.abs(values).max() == VALUE_LIMIT

"""Held latents: the same bits as the decoded ones, in a fraction of their bytes."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.receiver.held_latent import HeldLatent
from tests.support.publishing import codec, photo_packet

GAIN = codec().bundle.gain


@pytest.fixture(scope="module")
def latent():
    return codec().unpack(photo_packet())


def back(latent):
    return HeldLatent.of(latent, GAIN).latent(GAIN)


def test_a_decoded_latent_comes_back_to_the_bit_from_less_than_a_fifth_of_its_bytes(latent):
    assert np.array_equal(back(latent).values, latent.values)
    assert (back(latent).level, back(latent).region) == (latent.level, latent.region)
    assert HeldLatent.of(latent, GAIN).size_bytes < latent.values.nbytes / 5


def test_each_position_has_its_own_quality(latent):
    shape = latent.values.shape[1:]
    levels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    steps = GAIN[levels].transpose(2, 0, 1)
    values = (
        np.random.default_rng(0).integers(-900, 900, latent.values.shape).astype(np.float32) / np.float32(8) / steps
    )
    copied = replace(latent, values=values, copied_levels=levels)
    assert np.array_equal(back(copied).values, values)
    assert np.array_equal(back(copied).levels, levels)


@pytest.mark.parametrize("odd", [1e-3, 1e6, -0.0, np.nan])
def test_what_integers_do_not_say_is_held_in_floats(latent, odd):
    values = latent.values.copy()
    values[7, 0, 0] = odd
    assert back(replace(latent, values=values)).values.tobytes() == values.tobytes()


@settings(max_examples=200)
@given(st.binary(max_size=300), st.binary(max_size=4))
def test_any_bytes_are_a_latent_or_a_value_error(values, levels):
    with contextlib.suppress(ValueError):
        assert HeldLatent(values, levels, 32, 32, 9, None).latent(GAIN).values.shape == (96, 2, 2)

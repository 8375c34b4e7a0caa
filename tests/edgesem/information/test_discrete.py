"""The exact part of edgesem.information: what has a formula comes out within 1e-6, and what is bounded stays so."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.errors import UsageError
from edgesem.information import blahut, discrete
from tests.support import closed_forms

HAMMING = 1 - np.eye(2)
EXACT = 1e-6


def distributions(symbols):
    return (
        st.lists(st.integers(0, 20), min_size=symbols, max_size=symbols).filter(any).map(lambda n: np.array(n) / sum(n))
    )


def test_meanings_say_less_than_symbols():
    found = discrete.semantic_entropy([0.25, 0.25, 0.25, 0.25], ["car", "car", "dog", "dog"])
    assert found.semantic_bits == pytest.approx(1)
    assert found.classical_bits == pytest.approx(2)


def test_semantic_information_of_a_noiseless_channel_between_synonyms():
    found = discrete.mutual_information(np.eye(4) / 4, [0, 0, 1, 1], [0, 0, 1, 1])
    assert found.classical_bits == pytest.approx(2)
    assert found.upper_bits == pytest.approx(3)  # 2 + 2 - 1: which of two synonyms was meant need not be said
    assert found.lower_bits == pytest.approx(0)  # 1 + 1 - 2


@given(
    distributions(12),
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
@settings(max_examples=50)
def test_the_semantic_bounds_enclose_the_classical_value(values, rows, columns):
    found = discrete.mutual_information(values.reshape(3, 4), rows, columns)
    assert found.lower_bits <= found.classical_bits + 1e-9 <= found.upper_bits + 2e-9
    without = discrete.mutual_information(values.reshape(3, 4))
    assert without.lower_bits == pytest.approx(without.upper_bits) == pytest.approx(found.classical_bits)


@pytest.mark.parametrize("share", [0.01, 0.11, 0.3, 0.5])
def test_capacity_of_binary_channels(share):
    symmetric = blahut.capacity([[1 - share, share], [share, 1 - share]])
    erasure = blahut.capacity([[1 - share, share, 0], [0, share, 1 - share]])
    assert symmetric.bits == pytest.approx(closed_forms.binary_symmetric_capacity(share), abs=EXACT)
    assert erasure.bits == pytest.approx(closed_forms.binary_erasure_capacity(share), abs=EXACT)
    assert symmetric.converged
    assert symmetric.classical_bits == symmetric.bits


def test_capacity_where_inputs_are_used_unequally():
    found = blahut.capacity([[1, 0], [0.5, 0.5]])  # the Z channel
    assert found.bits == pytest.approx(math.log2(1.25), abs=EXACT)
    assert found.distribution == pytest.approx([0.6, 0.4], abs=1e-4)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_semantic_capacity_grows_by_the_synonyms(inputs, outputs):
    flip = 0.1
    channel = np.kron([[1 - flip, flip], [flip, 1 - flip]], np.full((inputs, outputs), 1 / outputs))
    found = blahut.capacity(channel, np.repeat([0, 1], inputs), np.repeat([0, 1], outputs))
    assert found.bits == pytest.approx(
        closed_forms.binary_symmetric_capacity(flip) + math.log2(inputs * outputs), abs=EXACT
    )
    assert found.classical_bits == pytest.approx(closed_forms.binary_symmetric_capacity(flip), abs=EXACT)


@given(
    st.lists(distributions(4), min_size=3, max_size=3),
    st.lists(st.integers(0, 1), min_size=3, max_size=3),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
@settings(max_examples=25)
def test_semantic_capacity_is_at_least_the_classical_and_its_gap_is_true(rows, inputs, outputs):
    found = blahut.capacity(rows, inputs, outputs, tolerance_bits=1e-5, most_iterations=3000)
    assert found.bits >= found.classical_bits - 1e-4
    uniform = discrete.mutual_information(np.array(rows) / 3, inputs, outputs)
    assert uniform.upper_bits <= found.bits + found.gap_bits + 1e-9


@pytest.mark.parametrize("p", [0.5, 0.3])
@pytest.mark.parametrize("distortion", [0, 0.05, 0.2, 0.29, 0.6])
def test_rate_of_a_binary_source(p, distortion):
    found = blahut.rate_distortion([p, 1 - p], HAMMING, distortion)
    assert found.bits == pytest.approx(closed_forms.binary_rate(p, distortion), abs=EXACT)
    assert found.converged
    assert found.gap_bits < EXACT


@pytest.mark.parametrize("distortion", [0.0, 0.05, 0.1, 0.4])
def test_semantic_rate_when_only_the_meaning_must_arrive(distortion):
    source, sets = np.array([0.2, 0.1, 0.3, 0.4]), [0, 0, 1, 1]
    between_meanings = 1 - np.kron(np.eye(2), np.ones((2, 2)))
    found = blahut.rate_distortion(source, between_meanings, distortion, sets, sets)
    entropy = discrete.semantic_entropy(source, sets)
    # That of the meanings, less the choice among synonyms that the source and the receiver each leave open
    exact = closed_forms.binary_rate(0.3, distortion) - 1 - (entropy.classical_bits - entropy.semantic_bits)
    assert found.signed_bits == pytest.approx(exact, abs=EXACT)
    assert found.bits == 0
    assert found.classical_bits == pytest.approx(closed_forms.binary_rate(0.3, distortion), abs=EXACT)


@given(distributions(3), st.floats(0, 1), st.lists(st.integers(0, 1), min_size=3, max_size=3))
@settings(max_examples=20)
def test_semantic_rate_is_at_most_the_classical(source, distortion, sets):
    found = blahut.rate_distortion(source, 1 - np.eye(3), distortion, sets, sets, tolerance_bits=1e-6)
    assert 0 <= found.bits <= found.classical_bits + 1e-4


def gaussian_grid():
    """A Gaussian on a grid fine enough for sums to be integrals to ten digits."""
    x = np.linspace(-7, 7, 71)
    p = np.exp(-(x**2) / 2)
    return p / p.sum(), (x[:, None] - x) ** 2


@pytest.mark.parametrize("distortion", [0.1, 0.25, 0.5])
def test_rate_of_a_gaussian_source(distortion):
    source, squared = gaussian_grid()
    found = blahut.rate_distortion(source, squared, distortion, most_iterations=1000)
    assert found.bits == pytest.approx(closed_forms.gaussian_rate(1, distortion), abs=EXACT)
    assert found.gap_bits < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: discrete.entropy([0.5, 0.6]),
        lambda: discrete.entropy([]),
        lambda: discrete.semantic_entropy([0.5, 0.5], ["one"]),
        lambda: blahut.capacity([[0.5, 0.6]]),
        lambda: blahut.capacity([0.5, 0.5]),
        lambda: blahut.rate_distortion([0.5, 0.5], HAMMING, -0.1),
        lambda: blahut.rate_distortion([0.5, 0.5], HAMMING, math.nan),
        lambda: blahut.rate_distortion([0.5, 0.5], [[math.inf, 0], [0, 1]], 0.1),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        wrong()

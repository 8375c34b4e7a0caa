"""Entropy coder: symbols come back, sizes are near the ideal, damaged words are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.entropy import kernel, rans
from edgesem.entropy.tables import SCALES, Tables
from edgesem.errors import BundleError, PacketError
from tests.support.rans import TABLES, decode, message


@pytest.fixture(scope="module", params=["python", "compiled"], autouse=True)
def way(request):
    """Each test in plain Python, and with the compiled kernel."""
    loops = request.getfixturevalue("compiled") if request.param == "compiled" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "load", lambda: loops)
        yield


@given(
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 7, 60, 900]),
    st.sampled_from([1, 2, 8, 32, 64, 256]),
    st.integers(0, 63),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=150)
def test_every_prefix_of_layers_decodes_to_what_was_coded(seed, most, lanes, high, layers):
    scales, entries = message(seed, most, min(3, high), high, sparse=(1, 20, 200))
    chunks = rans.encode(entries[:layers], TABLES, lanes)
    for kept in range(1, layers + 1):
        for got, wanted in zip(decode(chunks[:kept], layers, scales), entries, strict=False):
            assert all(np.array_equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize(("most", "high"), [(400, 24), (2000, 20), (10000, 22), (60000, 30)])
def test_real_size_is_within_one_percent_of_the_ideal_code_length(most, high):
    _, entries = message(1, most, 8, high)
    bits = sum(TABLES.bits[e].sum() for passes in entries for e in passes)
    chunks = rans.encode(entries, TABLES, rans.lanes_for(bits))
    assert bits / 8 <= sum(map(len, chunks)) <= 1.01 * bits / 8 + 5


@given(st.integers(0, 2**32), st.integers(1, 4), st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_chunks_give_wrong_symbols_or_a_packet_error_and_nothing_else(seed, layers, data):
    scales, entries = message(seed, 40, 5, 30)
    chunks = rans.encode(entries[:layers], TABLES, data.draw(st.sampled_from([1, 4, 256])))
    hurt = data.draw(st.integers(0, layers - 1))
    chunks[hurt] = data.draw(st.one_of(st.binary(max_size=80), st.just(chunks[hurt][: len(chunks[hurt]) // 2])))
    try:
        got = decode(chunks, layers, scales)
    except PacketError:
        return
    assert [[e.shape for e in passes] for passes in got] == [[s.shape for s in passes] for passes in scales[:layers]]


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_few_lanes_in_plain_python_and_in_numpy_are_the_same_code(monkeypatch, lanes):
    scales, entries = message(3, 900, 3, 40)
    monkeypatch.setattr(kernel, "load", lambda: None)
    plain = rans.encode(entries, TABLES, lanes)
    read = decode(plain, 4, scales)
    monkeypatch.setattr(rans, "_FEW_LANES", 0)
    assert rans.encode(entries, TABLES, lanes) == plain
    for mine, theirs, wanted in zip(decode(plain, 4, scales), read, entries, strict=True):
        assert all(map(np.array_equal, mine, theirs))
        assert all(map(np.array_equal, mine, wanted))


@given(st.integers(0, 2**32), st.integers(1, 300), st.sampled_from([1, 2, 4, 64]), st.floats(0, 1))
@settings(deadline=None, max_examples=150)
def test_what_no_table_expects_decodes_too(seed, count, lanes, share):
    """The first symbol of a table with the least frequency makes words of zeros, which the end of a packet lacks."""
    random = np.random.default_rng(seed)
    scale = random.integers(3, 20, count).astype(np.int32)
    symbol = np.where(random.random(count) < share, -1, 1) * TABLES.radius[scale]
    entries = TABLES.entry(symbol.astype(np.int32), scale)
    cut = count // 3
    chunks = rans.encode([[entries[:cut]], [entries[cut:]]], TABLES, lanes)
    decoder = rans.Decoder(chunks, TABLES)
    assert np.array_equal(np.concatenate([decoder.read(scale[:cut]), decoder.read(scale[cut:])]), entries)
    decoder.finish()


def test_a_table_that_skips_costs_no_bits():
    zeros = TABLES.entry(np.zeros(5000, np.int32), np.zeros(5000, np.int32))
    chunks = rans.encode([[zeros]], TABLES, 1)
    assert sum(map(len, chunks)) <= 5


def test_where_a_law_is_narrow_a_symbol_stands_for_less_than_its_number():
    scales = np.repeat(np.arange(SCALES), 2 * TABLES.radius + 1)
    eighths = TABLES.eighths
    for scale in range(SCALES):
        own, radius = eighths[scales == scale], TABLES.radius[scale]
        assert np.array_equal(own, -own[::-1])  # the same on both sides of zero
        less = 3 - (scale >= 8) - (scale >= 16) - (scale >= 26)
        assert own[radius + 1 :].tolist() == [8 * symbol - less for symbol in range(1, radius + 1)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r, f: (r[:-1], f), "64 radii"),
        (lambda r, f: (r, f[:-1]), "there must be"),
        (lambda r, f: (r, np.maximum(f - (f == f.max()), 1)), "sum to"),
        (lambda r, f: (r, f * (np.arange(f.size) != 9)), "between 1"),
        (lambda r, f: (r * 0 + 10**6, f), "radii"),
    ],
)
def test_tables_that_do_not_add_up_are_refused(change, what):
    radius, frequency = change(TABLES.radius.astype(int), TABLES.frequency.astype(int))
    with pytest.raises(BundleError, match=what):
        Tables.of(radius, frequency)

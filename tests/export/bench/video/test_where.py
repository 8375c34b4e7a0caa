"""Where the bytes of inter frames go: the books agree with the codec, and causes with what was done to a frame."""

import numpy as np
import pytest

import edgesem
from edgesem.codec.latent import LEVELS
from edgesem.codec.options import PackOptions
from edgesem.packet.side_information import Reference, SideInformation
from export.bench.video.scenes import noisy
from export.bench.video.where import CAUSES, LEVEL, Bookkeeper, where


@pytest.fixture(scope="module")
def codec():
    with edgesem.load() as codec:
        yield codec


@pytest.fixture(scope="module")
def books(codec):
    with Bookkeeper(codec) as books:
        yield books


@pytest.fixture(scope="module")
def pair(codec):
    """Two noisy frames of a scene, their latents, and what is decoded of the first."""
    random = np.random.default_rng(1)
    scene = np.kron(random.integers(40, 215, (8, 10, 3)), np.ones((20, 20, 1))).astype(np.uint8)[:150]  # odd positions
    first, second = (codec.analyze(frame) for frame in noisy(scene, 2))
    return first, second, codec.trial(first, LEVEL).decoded


def test_what_is_booked_is_the_packet_that_a_sender_makes(codec, books, pair):
    first, second, reference = pair
    options = PackOptions(side_info=SideInformation(reference=Reference(0, 4)), reference=reference)
    packet, decoded = codec.pack_decoded(second, quality=LEVEL / LEVELS, options=options)
    booked = books.book(second, first, reference)
    assert booked.size_bytes == packet.size_bytes
    assert np.array_equal(booked.decoded.values, decoded.values)
    trial = codec.trial(second, LEVEL, reference=reference)
    assert booked.bits.sum((1, 2)) == pytest.approx(trial.layer_bits)


def test_the_same_frame_has_nothing_new_and_a_noisy_one_has(books, pair):
    first, second, reference = pair
    new = CAUSES.index("new")
    assert books.book(first, first, reference).bits[:, new].sum() == 0
    assert books.book(second, first, reference).bits[:, new].sum() > 0


def test_with_the_reference_as_the_mean_nothing_is_pulled(books, pair):
    first, _, reference = pair
    copied = books.book(first, first, reference, means="reference")
    assert copied.bits[:, CAUSES.index("pulled")].sum() == 0
    assert copied.size_bytes < books.book(first, first, reference).size_bytes


def test_held_positions_cost_zeros_alone(books, pair):
    first, second, reference = pair
    held = np.zeros(first.values.shape[1:], bool)
    held[:3] = True
    bits = books.book(second, first, reference, held=held).bits.reshape(4, len(CAUSES), *held.shape)
    zeros = CAUSES.index("zeros")
    assert np.delete(bits, zeros, 1)[..., held].sum() == 0 < np.delete(bits, zeros, 1)[..., ~held].sum()


def test_shares_of_a_frame_add_up(codec):
    frame = np.kron(np.random.default_rng(2).integers(40, 215, (5, 20, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    found = where(codec, [frame, frame])
    for row in found["scenes"].values():
        assert sum(row["bits_by_group"].values()) == pytest.approx(1)
        assert sum(row["unchanged"].values()) + sum(row["changed"].values()) == pytest.approx(1)
    by_level = found["by_level_of_reference"]["identical"]
    assert by_level["255"] < by_level["60"]
    assert {row["layers"] for row in found["nothing_new"]} == {1, 4}
    held = [row for row in found["held"] if row["scene"] == "noise" and row["reference_level"] == LEVEL]
    assert held[0]["held_share_of_positions"] == 0
    assert held[-1]["share_of_key"] <= held[0]["share_of_key"]
    assert {row["bytes"] for row in found["copied"]["identical"]} == {33}
    assert all(0 <= row["copied_share_of_positions"] <= 1 for row in found["copied"]["object"])
    assert found["choices"]["motion"]["turn 16"]["share"] < 0.8
    assert found["choices"]["mean"]["200"]["share"] < 1

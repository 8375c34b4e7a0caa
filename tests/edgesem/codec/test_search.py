"""A sender's decisions: the kernel takes the same ones as plain Python, for pictures of all sizes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgesem
from edgesem.codec import budget, copying, motion
from edgesem.codec.copying import Copying, Differences
from edgesem.codec.latent import Latent, by_position
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import in_steps
from edgesem.codec.rounding import count_large
from edgesem.entropy.schedule import CHANNELS
from edgesem.packet import copy_map
from edgesem.packet.side_information import Reference, SideInformation

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sides = st.sampled_from([1, 2, 3, 7, 8, 20])
GAIN = edgesem.load().bundle.gain


def planes(random, height, width):
    return random.laplace(0, 10 ** random.uniform(-2, 1), (CHANNELS, height, width)).astype(np.float32)


@given(st.integers(0, 2**32), sides, sides)
@thorough
def test_features_are_those_of_plain_python(both, seed, height, width):
    latent = Latent(planes(np.random.default_rng(seed), height, width), 16 * width, 16 * height)
    plain, fast = both(budget.features, latent, GAIN)
    assert np.array_equal(plain, fast)


@given(st.integers(0, 2**32), sides, sides, st.booleans())
@thorough
def test_what_is_copied_is_what_plain_python_copies(both, seed, height, width, even):
    random = np.random.default_rng(seed)
    error, change = np.square(planes(random, height, width)), np.square(planes(random, height, width))
    change *= random.random((height, width)) < 0.3
    levels = np.full((height, width), random.integers(0, 256), np.int32)
    if not even:
        levels[: height // 2] = 30
    room, refined = random.integers(1, 200), random.choice([np.inf, 300.0])
    had = random.integers(0, 256, (height, width)).astype(np.int32)
    noise = np.float32(0.01) * random.random((96, 1, 1), np.float32)

    def decide():
        differences = Differences(error, change, had, noise, room)
        copies = differences.copies(by_position(GAIN, levels), levels, refined)
        knots = np.array([0, 100, 255], np.int32)
        likely = differences.likely_bytes(GAIN[knots], knots)
        return None if copies is None else (copies.mask.tolist(), copies.data), likely

    plain, fast = both(decide)
    assert plain == fast


@given(st.integers(0, 2**32), sides, sides, st.floats(0.01, 100), st.integers(0, 4))
@thorough
def test_borders_and_the_bits_of_a_map_are_those_of_plain_python(both, seed, height, width, border, sweeps):
    saved = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    saved[saved > 1.5] = 0
    (plain, plain_bytes), (fast, fast_bytes) = both(copying._smooth, saved, border)
    assert np.array_equal(plain, fast)
    assert plain_bytes == fast_bytes == len(copy_map.to_bytes(plain))


@given(st.integers(0, 2**32), sides, sides, st.integers(-5, 5), st.integers(-5, 5))
@thorough
def test_motion_is_what_plain_python_finds(both, seed, height, width, dy, dx):
    random = np.random.default_rng(seed)
    reference = Latent(planes(random, height, width), 16 * width, 16 * height, 100)
    values = reference.values + np.float32(0.05) * planes(random, height, width)
    top, left = random.integers(0, height), random.integers(0, width)
    part = np.s_[:, top : top + 8, left : left + 8]
    values[part] = np.roll(reference.values, (dy, dx), (1, 2))[part]
    plain, fast = both(motion.find, replace(reference, values=values), reference, GAIN[150])
    assert plain == fast


@given(st.integers(0, 2**32), sides, sides)
@thorough
def test_noise_and_differences_are_those_of_plain_python(both, seed, height, width):
    random = np.random.default_rng(seed)
    size = 16 * width, 16 * height
    frames = [Latent(planes(random, height, width) * np.float32(0.01), *size) for _ in range(3)]
    reference = Latent(planes(random, height, width), *size, 100, origin=planes(random, height, width))

    def differ():
        decides = Copying()
        for frame in frames:
            decides.look(frame)
        found = decides.against(frames[-1], reference, 200)
        return decides.noise.tolist(), found._error.tolist(), found._change.tolist()

    plain, fast = both(differ)
    assert plain == fast


@given(st.integers(0, 2**32), sides, sides, st.booleans(), st.booleans(), st.booleans())
@thorough
def test_steps_and_what_is_large_are_those_of_plain_python(both, seed, height, width, even, refers, copies):
    random = np.random.default_rng(seed)
    values = planes(random, height, width)
    steps = GAIN[140][:, None, None] if even else random.uniform(0.1, 3, values.shape).astype(np.float32)
    halves = random.random(values.shape) < 0.2
    values[halves] = ((np.rint(values * steps * 8) + np.float32(0.5)) / 8 / steps)[halves]
    latent = Latent(values, 16 * width, 16 * height, 140)
    known = random.integers(-30, 31, values.shape).astype(np.float32) if refers else None
    copied = random.random((height, width)) < 0.4 if copies else None
    plain, fast = both(in_steps, latent, steps)
    assert np.array_equal(plain, fast)
    plain, fast = both(count_large, values, steps, known, copied)
    assert plain == fast


@pytest.mark.parametrize("size", [(96, 128), (70, 50), (16, 16)])
def test_packets_to_a_budget_are_the_same_without_the_kernel(both, size):
    """A still scene with noise and an object that moves, as a sender codes it."""
    random = np.random.default_rng(3)
    codec, frame = edgesem.load(), np.kron(random.integers(0, 256, (13, 17, 3)), np.ones((8, 8, 1)))
    frame = frame[: size[0], : size[1]]
    latents = []
    for number in range(4):
        later = frame + random.normal(0, 1, frame.shape)
        later[20:40, 8 * number : 8 * number + 16] = 90
        latents.append(codec.analyze(later.clip(0, 255).astype(np.uint8)))

    def stream():
        decides, packets, known, options = Copying(), [], None, PackOptions()
        sender = edgesem.load()
        for number, latent in enumerate(latents):
            decides.look(latent)
            if number:
                side_info = SideInformation(reference=Reference(number - 1, len(packets[-1].chunks)))
                options = PackOptions(
                    side_info=side_info, reference=known, previous=packets[-1], copying=decides, frame=number
                )
            packet, known = sender.pack_decoded(latent, budget_bytes=700, options=options)
            sender.is_cut(latent, packet, packets[0] if packets else None)
            packets.append(packet)
        return [packet.to_bytes() for packet in packets], known.values.tobytes()

    plain, fast = both(stream)
    assert plain == fast


def test_arrays_of_other_shapes_are_refused(compiled):
    values = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(TypeError, match="two limits"):
        compiled.count(values, np.zeros((9, 2, 4), np.float32))
    with pytest.raises(TypeError, match="a scale for each"):
        compiled.excess(values, np.ones((1, 2, 1, 1), np.float32), 0.1, 0.2)
    with pytest.raises(IndexError):
        compiled.excess(values, np.ones((1, 3, 2, 1), np.float32), 0.1, 0.2)
    one, two = np.ones((3, 1, 1), np.float32), np.ones((3, 2, 1), np.float32)
    for steps, error in ((one[1:], TypeError), (two, IndexError)):
        with pytest.raises(error):
            compiled.in_steps(values, steps, 9)
        with pytest.raises(error):
            compiled.large(values, steps, None, None, 0.4)
        with pytest.raises(error):
            compiled.in_units(np.zeros((3, 1), np.float32), np.array([0]), steps[..., 0], values.reshape(3, 20))
    with pytest.raises(TypeError, match="one shape"):
        compiled.large(values, one, values[:, 1:], None, 0.4)
    with pytest.raises(TypeError, match="as many positions"):
        compiled.large(values, one, None, np.ones((2, 2), bool), 0.4)
    with pytest.raises(TypeError, match="one shape"):
        compiled.off(values, values[1:], np.ones(3, np.float32), 4)
    with pytest.raises(TypeError, match="one shape"):
        compiled.differ(values, values, values[1:], np.ones(3, np.float32), 4)
    for place in (-1, 20, 2**40):
        with pytest.raises(IndexError):
            compiled.in_units(np.zeros((3, 1), np.float32), np.array([place]), one[..., 0], values.reshape(3, 20))
    assert not values.any()
    with pytest.raises(TypeError, match="one shape"):
        compiled.match(values, values[:, 1:], np.ones((1, 2), bool), 4, (0, 0, 4), (4, 20),
                       np.zeros((1, 2), np.float32), np.zeros((1, 2, 2), np.int16))  # fmt: skip
    with pytest.raises(TypeError, match="three channels"):
        compiled.patches(np.zeros((8, 9, 3), np.uint8))
    large = np.zeros((1, 1, 257), np.float32)
    with pytest.raises(IndexError):
        compiled.count(large, np.zeros((1, 2, 1), np.float32))
    with pytest.raises(IndexError):
        compiled.smooth(large[0], 1.0, 3)

"""Running mean: noise goes where nothing changes, and what changes is there at once."""

from pathlib import Path

import numpy as np
import pytest

import edgesem
from edgesem.codec.copying import Copying
from edgesem.codec.latent import Latent
from edgesem.codec.options import PackOptions
from edgesem.codec.running_mean import FRAMES, RunningMean
from edgesem.files import read_picture
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import ms_ssim

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"


def latents(count, sigma=1.0, shape=(96, 6, 9)):
    scene, random = np.random.default_rng(1).normal(0, 10, shape), np.random.default_rng(2)
    return scene.astype(np.float32), [
        Latent((scene + random.normal(0, sigma, shape)).astype(np.float32), 144, 96) for _ in range(count)
    ]


NOISE = np.ones((96, 1, 1), np.float32)


def test_noise_falls_where_nothing_changes():
    scene, noisy = latents(3 * FRAMES)
    mean = RunningMean()
    for one in noisy:
        found = mean.add(one, NOISE)
    assert np.square(found.values - scene).mean() < 2 / FRAMES
    assert (found.width, found.height, found.level) == (144, 96, None)


def test_what_changes_is_there_at_once_and_the_rest_stays_averaged():
    scene, noisy = latents(FRAMES + 1)
    mean = RunningMean()
    for one in noisy[:-1]:
        mean.add(one, NOISE)
    changed = noisy[-1].values.copy()
    changed[:, 2, 3] += 4
    found = mean.add(Latent(changed, 144, 96), NOISE).values
    assert (found[:, 2, 3] == changed[:, 2, 3]).all()
    rest = np.delete(np.square(found - scene).mean(0).ravel(), 2 * 9 + 3)
    assert rest.mean() < 2 / FRAMES


def test_without_known_noise_or_after_another_size_a_frame_is_as_it_came():
    _, noisy = latents(2)
    _, small = latents(1, shape=(96, 4, 4))
    mean = RunningMean()
    assert mean.add(noisy[0], None) is noisy[0]
    assert mean.add(small[0], NOISE) is small[0]
    assert mean.add(noisy[1], NOISE) is noisy[1]


@pytest.mark.skipif(not edgesem.load().has_reference, reason="the default bundle has no references")
def test_noise_beside_what_moves_costs_less_and_the_scene_looks_more_like_it_is():
    codec, scene = edgesem.load(), read_picture(PHOTOS / "13_parking_1.jpg")[:208, :304]
    sizes, quality = {}, {}
    for on in (False, True):
        random, copying, mean, known = np.random.default_rng(0), Copying(), RunningMean(), None
        for frame in range(12):
            noisy = np.rint((scene + random.normal(0, 3, scene.shape)).clip(0, 255)).astype(np.uint8)
            noisy[:32, :64] = 255 * (frame % 2)  # where nothing moves at all, noise costs nothing either way
            latent = codec.analyze(noisy)
            copying.look(latent)
            latent = mean.add(latent, copying.noise) if on else latent
            side_info = SideInformation(reference=None if known is None else Reference(frame - 1, 4))
            options = PackOptions(side_info=side_info, reference=known, copying=copying, frame=frame)
            packet, known = codec.pack_decoded(latent, quality=0.8, options=options)
            sizes[on] = sizes.get(on, 0) + (packet.size_bytes if frame else 0)
        quality[on] = ms_ssim(scene[64:], codec.synthesize(known)[64:])
    assert sizes[True] < 0.8 * sizes[False]
    assert quality[True] > quality[False] - 0.0005

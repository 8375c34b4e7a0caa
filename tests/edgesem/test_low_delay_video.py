"""Video codecs without delay: one packet for one frame, one keyframe where no other is asked for."""

import numpy as np
import pytest

av = pytest.importorskip("av")

from edgesem.errors import UsageError  # noqa: E402
from edgesem.low_delay_video import LowDelayDecoder, LowDelayEncoder, svtav1_options  # noqa: E402

pytestmark = pytest.mark.skipif(
    int(av.__version__.split(".")[0]) < 18 or "libsvtav1" not in av.codecs_available,
    reason="SVT-AV1 of this PyAV is missing, or keeps frames back",
)
SHAPE = 181, 203


def frames(count):
    scene = np.kron(np.random.default_rng(0).integers(40, 215, (19, 21, 3)), np.ones((10, 10, 1)))
    return [np.ascontiguousarray(scene[: SHAPE[0], : SHAPE[1]], np.uint8) for _ in range(count)]


def encoder(options, **more):
    return LowDelayEncoder("libsvtav1", width=SHAPE[1], height=SHAPE[0], rate_hz=2, options=options, **more)


def test_each_frame_comes_back_at_once_as_large_as_it_was_and_one_is_a_keyframe():
    coder, decoder = encoder({**svtav1_options(10), "crf": "30"}), LowDelayDecoder("libsvtav1")
    sizes = []
    for frame in frames(50):  # SVT-AV1's own distance at 2 frames a second is 21
        data = coder.encode(frame)
        sizes.append(len(data))
        shown = decoder.decode(data, *SHAPE)
        assert shown.shape == frame.shape
        assert np.abs(shown.astype(int) - frame).mean() < 8
    coder.close()
    assert max(sizes[1:]) < 0.2 * sizes[0]


def test_a_higher_rate_gives_more_bytes():
    noise = np.random.default_rng(1).integers(0, 255, (12, *SHAPE, 3), np.uint8)
    sizes = []
    for bit_rate_bps in (20_000, 400_000):
        coder = encoder(svtav1_options(10, rtc=True, more=":rc=2"), bit_rate_bps=bit_rate_bps)
        sizes.append(sum(len(coder.encode(frame)) for frame in noise))
        coder.close()
    assert sizes[1] > 2 * sizes[0]


def test_an_option_that_the_encoder_does_not_know_is_no_silent_loss():
    with pytest.raises(UsageError, match="lag-in-frames"):
        encoder({**svtav1_options(10), "lag-in-frames": "0"}).encode(frames(1)[0])

"""The decoder's process: draws what the codec draws, and is started again when it is lost."""

import os
import signal

import numpy as np
import pytest

from edgesem.errors import BundleError, EdgesemError, LinkError, UsageError
from runtime.receiver.decoder_process import Decoder, Drawing
from tests.support.publishing import codec, frame, photo_packet


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as running:
        yield running


def test_it_draws_what_the_codec_draws(decoder):
    image = decoder.draw(photo_packet(), Drawing())
    assert np.array_equal(image, codec().synthesize(codec().unpack(photo_packet())))
    assert decoder.bundle_id == codec().bundle.id


def test_symbols_that_do_not_hold_together_are_an_error_and_the_next_frame_comes(decoder):
    with pytest.raises(EdgesemError):
        decoder.draw(frame(1, chunks=(b"\xff" * 40,) * 4), Drawing())
    assert decoder.draw(frame(2), Drawing()).shape == (112, 160, 3)


def test_a_killed_decoder_costs_one_frame(decoder):
    os.kill(decoder._process.pid, signal.SIGKILL)
    with pytest.raises(LinkError):
        decoder.draw(frame(1), Drawing())
    assert decoder.draw(frame(2), Drawing()).shape == (112, 160, 3)


def test_a_frame_that_takes_too_long_costs_the_process_and_not_the_thread(decoder):
    decoder._timeout_s = 0.0
    with pytest.raises(LinkError):
        decoder.draw(frame(1), Drawing())
    decoder._timeout_s = 60.0
    assert decoder.draw(frame(2), Drawing()).shape == (112, 160, 3)


def test_a_missing_bundle_is_said_at_once(tmp_path):
    with pytest.raises(BundleError, match="no bundle"), Decoder(tmp_path):
        pass


@pytest.mark.parametrize(
    "wrong", [{"steps": 5}, {"steps": -1}, {"seed": -1}, {"realism": 1.5}, {"realism": float("nan")}]
)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(UsageError):
        Drawing(**wrong)

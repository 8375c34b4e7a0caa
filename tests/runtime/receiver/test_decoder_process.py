"""The decoder's process: decodes what the codec decodes, and is started again when it is lost."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from edgesem.codec.copying import Copying
from edgesem.codec.options import PackOptions
from edgesem.errors import BundleError, EdgesemError, LinkError, UsageError
from edgesem.packet.side_information import Reference, Region, SideInformation
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.decoder_template import DecoderTemplate
from runtime.receiver.synthesis import SynthesisOptions
from tests.support.publishing import codec, frame, photo_packet

BASE = SynthesisOptions()


@pytest.fixture(scope="module", params=["a program", "a copy"])
def decoder(request):
    of_one = DecoderTemplate() if request.param == "a copy" else nullcontext()
    with of_one as template, DecoderProcess(template=template) as running:
        yield running


def test_it_decodes_what_the_codec_decodes(decoder):
    image, held = decoder.decode(photo_packet(), BASE)
    latent = held.latent(codec().bundle.gain)
    expected = codec().unpack(photo_packet())
    assert np.array_equal(image, codec().synthesize(expected))
    assert np.array_equal(latent.values, expected.values)
    assert latent.level == photo_packet().q


def test_a_chain_with_copies_and_a_region_is_decoded_as_the_codec_does(decoder):
    """The levels of what is copied go along with the values, from the keyframe's region on."""
    whole, mine, known = codec(), None, None
    copying, still = Copying(), whole.unpack(photo_packet())
    for number in range(4):
        moved = still.values.copy()
        moved[:, 2:4, number : number + 3] += 1.0
        latent = replace(still, values=moved, level=None)
        copying.look(latent)
        name = None if mine is None else Reference(number - 1, 4)
        side_info = SideInformation(reference=name, region=None if number else Region(0, 0, 4, 3, 60))
        options = PackOptions(side_info=side_info, reference=mine, copying=copying, frame=number)
        packet, mine = whole.pack_decoded(latent, quality=0.5 + 0.1 * (number % 2), options=options)
        image, known = decoder.decode(packet, BASE, known)
        assert np.array_equal(known.latent(whole.bundle.gain).values, mine.values)
        assert np.array_equal(known.latent(whole.bundle.gain).levels, mine.levels)
        assert np.array_equal(image, whole.synthesize(mine))
    assert packet.copied.any()
    assert not packet.copied.all()


def test_a_reference_of_another_size_is_an_error(decoder):
    _, held = decoder.decode(photo_packet(), BASE)
    other = photo_packet(1200, 320, 240)
    with pytest.raises(EdgesemError, match="no reference for a picture of this size"):
        decoder.decode(replace(other, side_info=SideInformation(reference=Reference(0, 4))), BASE, held)


def test_symbols_that_do_not_hold_together_are_an_error_and_the_next_frame_comes(decoder):
    with pytest.raises(EdgesemError):
        decoder.decode(frame(1, chunks=(b"\xff" * 40,) * 4), BASE)
    assert decoder.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_a_killed_decoder_costs_one_frame(decoder):
    os.kill(decoder._process.pid, signal.SIGKILL)
    with pytest.raises(LinkError):
        decoder.decode(frame(1), BASE)
    assert decoder.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_a_frame_that_takes_too_long_costs_the_process_and_not_the_thread(decoder):
    packet = photo_packet(4000, 640, 480)  # many ticks of the kernel's clock
    decoder._timeout_s = 0.0
    with pytest.raises(LinkError, match="longer than 0 s"):
        decoder.decode(packet, BASE)
    decoder._timeout_s = 60.0
    assert decoder.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_a_decoder_that_stands_still_is_ended_after_its_time(decoder):
    os.kill(decoder._process.pid, signal.SIGSTOP)
    decoder._timeout_s = 0.2
    with pytest.raises(LinkError):
        decoder.decode(frame(1), BASE)
    decoder._timeout_s = 60.0
    assert decoder.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_a_missing_bundle_is_said_at_once(tmp_path):
    with pytest.raises(BundleError, match="no bundle"), DecoderProcess([tmp_path]):
        pass


SCRIPT = """
print("once")
from runtime.receiver.decoder_process import DecoderProcess
with DecoderProcess() as decoder:
    print(type(decoder).__name__)
"""


@pytest.mark.parametrize("from_stdin", [True, False])
def test_a_script_without_a_main_guard_runs_once(from_stdin, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-" if from_stdin else script]
    run = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout == "once\nDecoderProcess\n"
    assert run.stderr == ""


@pytest.mark.parametrize(
    "wrong", [{"steps": 5}, {"steps": -1}, {"seed": -1}, {"realism": 1.5}, {"realism": float("nan")}]
)
def test_synthesis_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        SynthesisOptions(**wrong)

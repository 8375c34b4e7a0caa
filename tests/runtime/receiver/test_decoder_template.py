"""Decoder template: its copies decode, share its memory, and are lost with it alone."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgesem.errors import BundleError, LinkError
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.decoder_template import DecoderTemplate
from runtime.receiver.synthesis import SynthesisOptions
from tests.support.publishing import codec, frame, photo_packet, wait_for

BASE = SynthesisOptions()


@pytest.fixture(scope="module")
def template():
    with DecoderTemplate() as running:
        yield running


def memory_kb(pid, *names):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names)


def test_copies_share_what_is_loaded(template):
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("needs Linux")
    expected = codec().synthesize(codec().unpack(photo_packet()))
    with DecoderProcess(template=template) as one, DecoderProcess(template=template) as other:
        for decoder in (one, other):
            assert np.array_equal(decoder.decode(photo_packet(), BASE)[0], expected)
        pid = other._process.pid
        own = memory_kb(pid, "Private_Clean", "Private_Dirty")
        assert own < memory_kb(pid, "Rss") / 2
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LinkError):
            other.decode(frame(1), BASE)
        assert one.decode(frame(1), BASE)[0].shape == (112, 160, 3)
        assert other.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_a_decoder_without_work_gives_memory_back(template):
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("needs Linux")
    large = photo_packet(4000, 768, 512)
    with DecoderProcess(template=template) as decoder:
        decoder.decode(large, BASE)
        pid = decoder._process.pid
        busy_kb = memory_kb(pid, "Private_Dirty")
        wait_for(lambda: memory_kb(pid, "Private_Dirty") < busy_kb - 4000)
        later_kb = memory_kb(pid, "Private_Dirty")
        print(f"its own: {1.024e-3 * busy_kb:.0f} MB after a picture, {1.024e-3 * later_kb:.0f} MB later")
        assert decoder.decode(large, BASE)[0].shape == (512, 768, 3)


def test_no_copy_is_left_behind(template):
    with DecoderProcess(template=template) as decoder:
        pid = decoder._process.pid
        os.kill(pid, signal.SIGSTOP)  # as one that hangs in a packet
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_a_template_that_is_lost_is_started_again(template):
    with DecoderProcess(template=template) as decoder:
        pid = decoder._process.pid
        os.kill(template._process.pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())
        with pytest.raises(LinkError):
            decoder.decode(frame(1), BASE)
        assert decoder.decode(frame(2), BASE)[0].shape == (112, 160, 3)


def test_it_has_one_thread(template):
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    with DecoderProcess(template=template):
        assert "Threads:\t1\n" in Path(f"/proc/{template._process.pid}/status").read_text()


def test_a_bundle_that_cannot_be_used_is_said_and_an_ended_template_makes_no_copy(tmp_path):
    with pytest.raises(BundleError, match="no bundle"), DecoderTemplate([tmp_path]):
        pass
    with pytest.raises(LinkError, match="ended"), DecoderProcess(template=DecoderTemplate()):
        pass

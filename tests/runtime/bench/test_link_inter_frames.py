"""bench link --references: the real codec over a real broker, acknowledgements lost, judged by a decoder of all."""

import numpy as np
import pytest

from edgesem.bundle.bundle import Bundle
from edgesem.cli.main import main
from edgesem.codec.options import PackOptions
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.trace import load_trace
from runtime.bench.link.bench import Options
from runtime.bench.link.clip import load_images, ping_pong
from runtime.bench.link.inter_frame_endpoints import digest
from runtime.bench.link.inter_frames import InterFrameLog, figures, run_inter_frames
from runtime.bench.link.oracle_decoder import RecordingCodec


@pytest.fixture(scope="module")
def images():
    return [np.ascontiguousarray(image[160:352, 100:292]) for image in load_images(None, 6, 4)]


@pytest.fixture(scope="module")
def codec():
    return RecordingCodec(Bundle.open())


def test_a_camera_goes_ping_pong():
    assert [ping_pong(tick, 3) for tick in range(6)] == [0, 1, 2, 1, 0, 1]
    assert ping_pong(7, 1) == 0


def test_inter_frames_save_bytes_and_give_no_wrong_picture_where_acknowledgements_are_lost(images, codec):
    options = Options(trace="100kbit", seconds=4, fps=5)
    trace = load_trace("100kbit")
    about = {"images": images, "codec": codec, "trace": trace, "options": options}
    found = run_inter_frames("edgesem-reference", **about, lose_acks=0.3, relay=True).figures
    assert found["wrong"] == 0
    assert found["frames"] == 20
    assert found["shown"] >= 3
    assert found["lost_acks"] > 0
    assert found["referring_share"] > 0
    assert found["saved_share"] > 0
    assert 0.5 < found["ms_ssim"] <= 1


def log_of(codec, images, tampered):
    """A run of two frames on paper, the second refers to the first; what the receiver decoded may be tampered with."""
    codec.made.clear()
    first, known = codec.pack_decoded(codec.analyze(images[0]), quality=0.4, options=PackOptions(epoch=1))
    named = SideInformation(reference=Reference(0, 4))
    options = PackOptions(side_info=named, reference=known, epoch=1, frame=1)
    _, second = codec.pack_decoded(codec.analyze(images[1]), quality=0.4, options=options)
    decoded = [[10.3, 1, 0, 4, digest(known)], [10.6, 1, 1, 4, "other" if tampered else digest(second)]]
    events = [{"event": "packed", "frame": number, "name": str(number)} for number in range(2)]
    packets = [packet.to_bytes().hex() for packet in codec.made.values()]
    sender = {"begin_s": 10.0, "captured_s": [10.0, 10.5], "events": events, "packets": packets}
    receiver = {"decoded": decoded, "refused": 0, "key_requests": 0, "acks": 10, "lost_acks": 0}
    return InterFrameLog(sender, receiver, 1.0), first


@pytest.mark.parametrize("tampered", [False, True])
def test_what_a_receiver_shows_is_compared_with_the_oracle(images, codec, tampered):
    log, first = log_of(codec, images, tampered)
    found = figures(log, images, codec)
    assert found["wrong"] == tampered
    assert found["referring_share"] == 0.5
    assert 0 < found["saved_share"] < 0.5
    assert found["delay_p50_s"] == pytest.approx(0.2)
    assert found["age_p95_s"] == pytest.approx(0.54, abs=0.02)
    assert found["bytes_per_packet"] < first.size_bytes


def test_acknowledgements_are_lost_with_inter_frames_only(capsys):
    assert main(["bench", "link", "--trace", "100kbit", "--lose-acks", "0.2"]) == 2
    assert "--references" in capsys.readouterr().err

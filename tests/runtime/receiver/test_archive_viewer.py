"""Archive viewer: archived pictures of a time, drawn beside the live ones."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgesem.codec.options import PackOptions
from edgesem.errors import BundleError, InputError, PacketError
from edgesem.packet.side_information import Reference, SideInformation
from runtime.capture.frame import PHOTOS
from runtime.receiver import archive_viewer
from runtime.receiver.archive import Archive
from runtime.receiver.archive_drawer import ArchiveDrawer
from runtime.receiver.archive_viewer import ArchiveViewer
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.synthesis import SynthesisOptions
from tests.support.publishing import DEADLINE_S, codec, frame, plain

GATE = "home/gate/main"


def moving(number):
    with Image.open(sorted(PHOTOS.glob("*.jpg"))[0]) as image:
        return np.asarray(image.convert("RGB").resize((200, 112)))[:, 4 * number : 160 + 4 * number]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A keyframe at 1000 s, five inter frames a second apart, and another keyframe at 2000 s."""
    with Archive(tmp_path_factory.mktemp("archive")) as kept:
        decoded = None
        for number in range(6):
            side_info = SideInformation(reference=None if decoded is None else Reference(number - 1, 4))
            options = PackOptions(side_info=side_info, reference=decoded)
            packet, decoded = codec().pack_decoded(codec().analyze(moving(number)), budget_bytes=1200, options=options)
            kept.add(GATE, replace(packet, frame=number, epoch=1), 1000.0 + number)
        kept.add(GATE, frame(6), 2000.0)
        yield kept


@pytest.fixture
def viewer(archive):
    with ArchiveViewer(archive, [None]) as one:
        yield one


def at(viewer, at_s, near_s=0.0):
    return viewer.picture(GATE, at_s, near_s, SynthesisOptions())


def pixels(drawn, tmp_path):
    (file := tmp_path / "drawn.jpg").write_bytes(drawn.jpeg)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def test_the_picture_of_a_time_is_the_one_that_was_captured_last(viewer, archive, tmp_path):
    for at_s, number in ((1000.0, 0), (1003.9, 3), (1500.0, 5), (2000.0, 6)):
        drawn = at(viewer, at_s)
        assert drawn.entry.frame == number
        expected, _ = ArchiveDrawer(archive, {codec().bundle.id: codec()}).draw(drawn.entry)
        assert np.abs(pixels(drawn, tmp_path) - expected).mean() < 4  # JPEG
    for stream, at_s in ((GATE, 999.9), ("home/yard/main", 2000.0)):
        with pytest.raises(InputError, match="nothing of"):
            viewer.picture(stream, at_s, 0.0, SynthesisOptions())


def test_a_keyframe_that_is_near_enough_saves_the_frames_between(viewer, monkeypatch):
    decoded = []
    decode = DecoderProcess.decode
    monkeypatch.setattr(
        DecoderProcess,
        "decode",
        lambda self, packet, *rest, **how: decoded.append(packet.frame) or decode(self, packet, *rest, **how),
    )
    assert at(viewer, 1004.0, near_s=300.0).entry.frame == 0
    assert at(viewer, 1005.0, near_s=4.0).entry.frame == 5
    assert decoded == [0, 1, 2, 3, 4, 5]
    assert at(viewer, 1005.0).entry.frame == 5  # kept
    assert at(viewer, 1003.0).entry.frame == 3  # from the latents that are held
    assert decoded[6:] == [3]


def test_a_decoder_that_nobody_needs_is_ended(viewer, monkeypatch):
    at(viewer, 2000.0)
    child = viewer._decoder._process
    viewer.rest()
    assert child.poll() is None
    monkeypatch.setattr(archive_viewer, "_IDLE_S", 0.0)
    viewer.rest()
    assert child.wait(10) is not None
    assert at(viewer, 1000.0).entry.frame == 0


def test_rest_does_not_wait_for_packets_that_take_long(viewer, archive, monkeypatch):
    at(viewer, 2000.0)
    monkeypatch.setattr(archive_viewer, "_IDLE_S", 0.0)
    asked, answered = threading.Event(), threading.Event()

    class Slow:
        """The archive, whose packets stand in an object store that does not answer."""

        newest = archive.newest

        def packet(self, entry):
            asked.set()
            assert answered.wait(DEADLINE_S)
            return archive.packet(entry)

    viewer.archive = Slow()
    with ThreadPoolExecutor(2) as pool:
        picture = pool.submit(at, viewer, 1000.0)
        assert asked.wait(DEADLINE_S)
        rests = pool.submit(viewer.rest)
        try:
            rests.result(DEADLINE_S / 4)
            assert not picture.done()
        finally:
            answered.set()
        assert picture.result().entry.frame == 0


def test_pictures_of_one_viewer_are_drawn_in_turn_and_kept_within_bounds(viewer, monkeypatch):
    monkeypatch.setattr(archive_viewer, "_KEPT_BYTES", 20_000)
    times_s = [1000.0 + number for number in range(6)] + [2000.0]
    with ThreadPoolExecutor(7) as pool:
        drawn = list(pool.map(lambda at_s: at(viewer, at_s), times_s))
    assert [one.entry.frame for one in drawn] == [0, 1, 2, 3, 4, 5, 6]
    assert 0 < sum(len(one.jpeg) for one in viewer._kept.values()) <= 20_000


def test_what_cannot_be_drawn_is_an_error_and_nothing_else(tmp_path):
    with Archive(tmp_path) as archive, ArchiveViewer(archive, [None]) as viewer:
        itself = replace(plain(3).side_info, reference=Reference(3, 4))
        archive.add(GATE, plain(1), 1000.0)
        archive.add(GATE, plain(2, bundle_id=codec().bundle.id), 1001.0)
        archive.add(GATE, replace(plain(3), side_info=itself), 1002.0)
        archive.add(GATE, frame(4), 1003.0)
        for at_s, error in ((1000.0, BundleError), (1001.0, Exception), (1002.0, PacketError)):
            with pytest.raises(error):
                at(viewer, at_s)
        assert at(viewer, 1003.0).entry.frame == 4


def test_times_are_spread_over_a_day_with_one_look_up_each(tmp_path):
    with Archive(tmp_path) as archive:
        for number in range(0, 3600, 2):
            if not 1000 <= number < 2000:
                archive.add(GATE, plain(number), float(number))
                archive.add("home/yard/main", plain(number), float(number))
        found = archive.spread(GATE, 0.0, 3600.0, 36)
        assert [one.captured_s for one in found] == [100.0 * part for part in range(36) if not 10 <= part < 20]
        assert [one.captured_s for one in archive.spread(GATE, 1.0, 11.0, 600)] == [2.0, 4.0, 6.0, 8.0, 10.0]
        assert archive.spread(GATE, 1000.0, 2000.0, 10) == []
        plan = archive._rows(
            "explain query plan select id from frames where stream = 'x' and captured_s >= 1 order by captured_s"
        )
        assert "by_stream" in plan[0][-1]
        started_s = time.perf_counter()
        archive.spread(GATE, 0.0, 3600.0, 600)
        assert time.perf_counter() - started_s < 1

"""Drawing: what a picture says of its age, and what is noted of a kept frame."""

import time
from dataclasses import replace

import numpy as np
import pytest

from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.frame_drawer import FrameDrawer
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.streams import Streams
from runtime.web.gallery import Gallery
from tests.support.publishing import codec, frame

TOPICS = Topics("home", "cam", "main")
DAY_S = 86400


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as running:
        yield running


class Drawer:
    """A drawer and its streams, without a broker; pictures go where `on_picture` wants them."""

    def __init__(self, decoder, on_picture, store=None, archive=None):
        self.decoder = decoder
        self.streams = Streams(bundle_ids=[codec().bundle.id], publish=lambda *_: None, promised_store=store)
        self.drawer = FrameDrawer(self.streams, BundleSet([None]), on_picture, archive, None)

    def draw(self, *packets):
        for packet in packets:
            self.streams.on_message(TOPICS.layer(0), packet.to_bytes())
        while (job := self.streams.next_frame(0)) is not None:
            self.drawer.draw(self.decoder, *job)


def captured(packet, age_s):
    """A promised frame that was captured so long ago."""
    time_ms = int((time.time() - age_s) * 1000)
    side_info = replace(packet.side_info, time_high=time_ms >> 32)
    return replace(packet, promised=True, time_ms=time_ms % 2**32, side_info=side_info)


@pytest.mark.parametrize("days", [1, 26, 60, 4000])
def test_a_promised_frame_is_as_old_as_it_is_however_late_it_comes(decoder, days):
    pictures = []
    Drawer(decoder, pictures.append).draw(captured(frame(1), days * DAY_S))
    assert pictures[0].delay_s == pytest.approx(days * DAY_S, abs=60)


def test_a_promised_frame_of_long_ago_does_not_replace_a_fresh_picture(decoder):
    gallery = Gallery()
    Drawer(decoder, gallery.put).draw(frame(5), captured(frame(1), 30 * DAY_S))
    assert gallery.latest("home/cam/main").info.frame == 5
    assert gallery.latest_promised("home/cam/main").info.frame == 1


def test_a_frame_whose_clock_was_not_set_is_archived_under_the_time_at_which_it_came(decoder, tmp_path):
    """By 1970 it would be too old at once, and found by no search of yesterday."""
    now_s = time.time()
    with Archive(tmp_path, max_age_s=60 * DAY_S, promised_max_age_s=60 * DAY_S) as archive:
        drawer = Drawer(decoder, lambda _: None, archive=archive)
        drawer.draw(captured(frame(1), now_s - 90), captured(frame(2), 10 * DAY_S))
        archive.tidy()
        came_s = {entry.frame: entry.captured_s for entry in archive.entries()}
    assert came_s == {1: pytest.approx(now_s, abs=120), 2: pytest.approx(now_s - 10 * DAY_S, abs=120)}


def test_what_a_sender_calls_grey_is_drawn_without_colour_and_nothing_from_before(decoder, tmp_path):
    pictures, now_ms = [], time.time_ns() // 1_000_000
    with Archive(tmp_path) as archive:
        drawer = Drawer(decoder, pictures.append, archive=archive)
        state = State(True, 1, now_ms - 30_000, grey=True)
        drawer.streams.on_message(TOPICS.state, state.to_bytes())
        drawer.draw(frame(5), captured(frame(1), 60), captured(frame(2), 20), frame(6, epoch=2))
        drawer.streams.on_message(TOPICS.state, replace(state, time_ms=now_ms, grey=False).to_bytes())
        drawer.draw(frame(7))
        kept = {entry.frame: entry.grey for entry in archive.entries()}
    drawn = {picture.packet.frame: np.ptp(picture.image, axis=2).max() == 0 for picture in pictures}
    assert kept == drawn == {5: True, 1: False, 2: True, 6: False, 7: False}


def test_a_kept_frame_whose_picture_nobody_could_take_is_drawn_at_the_next_start(decoder, tmp_path):
    def fail(_):
        raise RuntimeError("a defect")

    with PromisedStore(tmp_path) as store:
        Drawer(decoder, fail, store)
        streams = Drawer(decoder, fail, store)
        streams.streams.on_message(TOPICS.layer(0), captured(frame(1), 0).to_bytes())
        job = streams.streams.next_frame(20)
        streams.drawer.draw(decoder, *job)
    pictures = []
    for expected in (1, 0):  # a second start has nothing left to draw
        with PromisedStore(tmp_path) as store:
            store._scanner.join()
            again = Drawer(decoder, pictures.append, store)
            again.streams.refill()
            again.draw()
        assert len(pictures) == expected
        pictures.clear()

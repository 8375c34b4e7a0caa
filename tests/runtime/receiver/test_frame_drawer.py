"""Drawing: what a picture says of its age, and what is noted of a kept frame."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgesem.codec.options import PackOptions
from edgesem.packet.side_information import Reference, SideInformation
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.frame_drawer import FrameDrawer, OnDemand
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.skipped_picture import SkippedPicture
from runtime.receiver.streams import Streams
from runtime.web.gallery import Gallery
from tests.support.publishing import codec, frame, photo_packet

TOPICS = Topics("home", "cam", "main")
DAY_S = 86400


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as running:
        yield running


class Drawer:
    """A drawer and its streams, without a broker; pictures go where `on_picture` wants them."""

    def __init__(self, decoder, on_picture, store=None, archive=None, on_demand=None, semantic_filter=None):
        self.decoder = decoder
        bundles = BundleSet([None])
        self.streams = Streams(
            bundle_ids=[codec().bundle.id],
            publish=lambda *_: None,
            promised_store=store,
            references=bundles.has_reference,
        )
        self.drawer = FrameDrawer(self.streams, bundles, on_picture, archive, semantic_filter, on_demand)

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


def inter_frames(count):
    """A keyframe, and frames that each refer to the one before."""
    packets, latent = [photo_packet()], codec().unpack(photo_packet())
    for number in range(1, count):
        options = PackOptions(
            frame=number,
            side_info=SideInformation(reference=Reference(number - 1, 4)),
            reference=latent,
            previous=packets[-1],
        )
        packets.append(codec().pack(codec().analyze(codec().synthesize(latent)), quality=0.4, options=options))
        latent = codec().unpack(packets[-1], latent)
    return packets


class Demand:
    """Whether pictures are needed, and what was drawn because it was asked for."""

    def __init__(self):
        self.needed, self.shown = False, []
        self.on_demand = OnDemand(lambda _name, _packet: self.needed, self.shown.append)


def test_pictures_that_nobody_needs_are_not_drawn_and_later_ones_are_as_good(decoder):
    packets, drawn, pictures, demand = inter_frames(4), [], [], Demand()
    always = Drawer(decoder, drawn.append)
    drawer = Drawer(decoder, pictures.append, on_demand=demand.on_demand)
    for number, packet in enumerate(packets):
        demand.needed = number == 2
        drawer.draw(packet)
        always.draw(packet)
    assert [picture.drawn for picture in pictures] == [False, False, True, False]
    assert pictures[0].image.shape == (0, 0, 3)
    assert np.array_equal(pictures[2].image, drawn[2].image)
    stream = drawer.streams.all()[0]
    assert (stream.pictures, stream.inbox.counters.missing_reference) == (4, 0)


def test_the_newest_frame_is_drawn_when_somebody_comes_and_counts_once(decoder, tmp_path):
    packets, drawn, pictures, demand = inter_frames(2), [], [], Demand()
    Drawer(decoder, drawn.append).draw(*packets)
    with Archive(tmp_path) as archive:
        drawer = Drawer(decoder, pictures.append, archive=archive, on_demand=demand.on_demand)
        drawer.draw(*packets)
        stream = drawer.streams.all()[0]
        for _ in range(2):  # the second time there is nothing left to draw
            drawer.streams.skipped.draw(stream)
            drawer.draw()
        assert len(archive.entries()) == 2
    assert [picture.packet.frame for picture in demand.shown] == [1]
    assert np.array_equal(demand.shown[0].image, drawn[1].image)
    assert (len(pictures), stream.pictures, len(stream.history.since(0))) == (2, 2, 2)


def test_a_newer_frame_is_drawn_in_place_of_the_one_that_was_asked_for(decoder):
    pictures, demand = [], Demand()
    drawer = Drawer(decoder, pictures.append, on_demand=demand.on_demand)
    drawer.draw(frame(1))
    demand.needed = True
    drawer.streams.skipped.draw(drawer.streams.all()[0])
    drawer.draw(frame(2))
    assert [(picture.packet.frame, picture.drawn) for picture in pictures] == [(1, False), (2, True)]
    assert demand.shown == []


def test_who_comes_while_a_frame_is_decoded_without_its_picture_gets_it_all_the_same(decoder):
    demand = Demand()

    def come(_picture):
        demand.needed = True
        drawer.streams.skipped.draw(drawer.streams.all()[0])

    def come_unheard(_picture):
        demand.needed = True

    for arrive in (come, come_unheard):
        demand.needed = False
        drawer = Drawer(decoder, arrive, on_demand=demand.on_demand)
        drawer.draw(frame(1))
    assert [picture.packet.frame for picture in demand.shown] == [1, 1]


def test_a_skipped_picture_is_drawn_also_where_what_it_refers_to_was_forgotten(decoder):
    packets, demand, first_two = inter_frames(6), Demand(), SimpleNamespace(passes=lambda packet: packet.frame <= 1)
    drawer = Drawer(decoder, lambda _: None, on_demand=demand.on_demand, semantic_filter=first_two)
    for packet in packets:
        drawer.draw(packet)
    stream = drawer.streams.all()[0]
    stream.references.clear()
    drawer.streams.skipped.draw(stream)
    drawer.draw()
    assert [picture.packet.frame for picture in demand.shown] == [1]
    assert stream.inbox.counters.missing_reference == 0


def test_a_skipped_picture_that_cannot_be_drawn_is_tried_again_and_not_for_ever(decoder):
    demand, shown = Demand(), []
    drawer = Drawer(decoder, lambda _: None, on_demand=OnDemand(lambda *_: demand.needed, lambda _: shown[0]))
    drawer.draw(frame(1))
    stream, asked = drawer.streams.all()[0], 0
    while drawer.streams.skipped.draw(stream):
        drawer.draw()  # who takes the picture raises
        asked += 1
    assert 1 < asked < 10
    drawer.draw(frame(2))
    drawer.drawer._on_demand = demand.on_demand
    assert drawer.streams.skipped.draw(stream)
    drawer.draw()
    assert [picture.packet.frame for picture in demand.shown] == [2]


@pytest.mark.parametrize("asked_first", [False, True])
def test_a_newer_frame_that_cannot_be_decoded_does_not_take_the_skipped_ones_place(decoder, asked_first):
    packets, demand = inter_frames(3), Demand()
    drawer = Drawer(decoder, lambda _: None, on_demand=demand.on_demand)
    drawer.draw(packets[0])
    stream = drawer.streams.all()[0]
    if asked_first:
        drawer.streams.skipped.draw(stream)
    drawer.streams.on_message(TOPICS.layer(0), packets[2].to_bytes())  # refers to one that never came
    drawer.streams.skipped.draw(stream)
    drawer.draw()
    assert [picture.packet.frame for picture in demand.shown] == [0]


def test_a_newer_frame_that_is_skipped_meanwhile_is_drawn_in_place_of_the_older_one(decoder):
    pictures, demand = [], Demand()
    drawer = Drawer(decoder, pictures.append, on_demand=demand.on_demand)
    streams = drawer.streams
    drawer.draw(frame(1))
    streams.skipped.draw(streams.all()[0])
    older = streams.next_frame(0)  # one decoder's thread has it, and waits
    streams.skipped.note(older[0], SkippedPicture(frame(2), None))
    drawer.drawer.draw(decoder, *older)
    streams.skipped.draw(older[0])
    drawer.draw()
    assert ([picture.packet.frame for picture in pictures], demand.shown[0].packet.frame) == ([1], 2)


def test_promised_frames_take_turns_with_a_picture_that_somebody_waits_for(decoder):
    order: list[int] = []
    drawer = Drawer(
        decoder,
        lambda picture: order.append(picture.packet.frame),
        on_demand=OnDemand(lambda _, packet: packet.promised, lambda picture: order.append(picture.packet.frame)),
    )
    drawer.draw(frame(100))
    for number in range(1, 6):
        drawer.streams.on_message(TOPICS.layer(0), captured(frame(number), DAY_S).to_bytes())
    drawer.streams.skipped.draw(drawer.streams.all()[0])
    drawer.draw()
    assert order.index(100, 1) <= 2


def test_of_what_the_filter_leaves_out_no_picture_is_drawn(decoder):
    drawn = []

    class Orders:
        """The decoder, and whether it was to draw."""

        def decode(self, *args, draw):
            drawn.append(draw)
            return decoder.decode(*args, draw=draw)

    class Nothing:
        """A filter that no frame passes."""

        def passes(self, _packet):
            return False

    Drawer(Orders(), pytest.fail, semantic_filter=Nothing()).draw(*inter_frames(2))
    assert drawn == [False, False]

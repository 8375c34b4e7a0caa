"""Events at a receiver: frames in any order become a clip, over restarts too; strangers and full disks cost no more."""

import json
import os
import shutil
from dataclasses import replace
from random import Random

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgesem.errors import InputError
from edgesem.packet.event_mark import EventMark
from edgesem.packet.side_information import SideInformation
from edgesem.provenance import Provenance, read_provenance
from runtime.protocol.clock import unix_ms
from runtime.protocol.topics import Topics
from runtime.receiver import event_clip, event_store
from runtime.receiver.event_gatherer import EventGatherer
from runtime.receiver.event_record import EventRecord
from runtime.receiver.event_store import EventStore
from runtime.receiver.received_picture import ReceivedPicture
from tests.support.publishing import codec, frame

TOPICS = Topics("home", "gate", "main")
EVENT = 0x5F3A9C01
BEGUN_MS = unix_ms() - 60_000
SHAPE = (96, 128, 3)


def picture(place, *, since_ms=None, last=False, label="a person", event=EVENT, shape=SHAPE, clock=True):
    """A promised picture of an event; its brightness says its place."""
    since_ms = 500 * (place - 4) if since_ms is None else since_ms
    mark = EventMark(event, place, since_ms, 1, last, label)
    time_ms = BEGUN_MS + since_ms if clock else 5_000 + since_ms
    packet = replace(
        frame(place, promised=True),
        time_ms=time_ms % 2**32,
        side_info=SideInformation(time_high=time_ms >> 32, event=mark),
    )
    image = np.full(shape, 20 * place % 250, np.uint8)
    return ReceivedPicture("home/gate/main", TOPICS, packet, image, 0, 0.0, 0.0, Provenance.of(packet, codec().bundle))


class Receiver:
    """Store and gatherer of one start of a receiver, in simulated time, without its thread."""

    def __init__(self, folder):
        self.told, self.now_s, self.written = [], 0.0, 0
        self.store = EventStore(folder, on_written=self.count, clock=lambda: self.now_s)
        self.store.load()
        self.gatherer = EventGatherer(self.store, self.told.append, clock=lambda: self.now_s)

    def count(self, size_bytes):
        self.written += size_bytes

    def add(self, *pictures):
        for one in pictures:
            self.store.add(one)
            self.gatherer.step()
        self.wait(5)  # an event that is whole may go on for so long

    def wait(self, seconds):
        self.now_s += seconds
        self.gatherer.step()

    def files(self):
        return sorted(path.name for path in self.store.folder.rglob("*") if path.is_file())


def whole(count=10, **more):
    return [picture(place, last=place == count - 1, **more) for place in range(count)]


def frames_of(path):
    with av.open(str(path)) as container:
        times, levels = [], []
        for one in container.decode(video=0):
            times.append(round(1000 * one.time))
            levels.append(one.to_ndarray(format="rgb24").mean())
    return times, levels


@pytest.mark.parametrize("seed", range(4))
def test_frames_in_any_order_and_twice_become_one_clip_in_the_order_of_time(tmp_path, seed):
    receiver = Receiver(tmp_path)
    pictures = whole() + whole()[3:7]
    Random(seed).shuffle(pictures)
    receiver.add(*pictures)
    begun, *_, complete = receiver.told
    assert (begun.phase, begun.frames, begun.clip) == ("begun", 1, "")
    assert (complete.phase, complete.frames, complete.missing) == ("complete", 10, 0)
    assert (complete.first_s, complete.last_s, complete.cause, complete.label) == (-2.0, 2.5, "watch", "a person")
    assert complete.time_ms == BEGUN_MS
    folder = receiver.store.folder
    times, levels = frames_of(complete.clip_file(folder))
    assert times == [500 * number for number in range(10)] + [5500]
    assert levels[:10] == sorted(levels[:10])
    with Image.open(complete.sheet_file(folder)) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width == 8 + 4 * 248
    with Image.open(complete.picture_file(folder)) as nearest:
        assert np.asarray(nearest).mean() == pytest.approx(80, abs=2)  # place 4
    assert read_provenance(complete.picture_file(folder)).frame == 4
    with av.open(str(complete.clip_file(folder))) as container:
        assert "drawn by edgesem from 10 packets" in container.metadata["comment"]
    receiver.wait(121)
    assert [name.removeprefix(complete.name) for name in receiver.files()] == ["-sheet.jpg", ".jpg", ".json", ".mp4"]
    receiver.add(*whole())  # of a sender that has not heard that they are kept
    receiver.wait(100)
    assert len(receiver.told) == 2
    assert receiver.written > 0


def test_what_is_missing_is_waited_for_and_makes_another_clip_when_it_comes(tmp_path):
    receiver = Receiver(tmp_path)
    *most, late, last = whole()
    receiver.add(*most, last)
    assert [one.phase for one in receiver.told] == ["begun"]
    receiver.wait(31)
    assert (receiver.told[-1].phase, receiver.told[-1].frames, receiver.told[-1].missing) == ("complete", 9, 1)
    receiver.wait(3600)
    assert len(receiver.told) == 2
    receiver.add(late)
    assert (receiver.told[-1].frames, receiver.told[-1].missing) == (10, 0)
    assert len(frames_of(receiver.told[-1].clip_file(receiver.store.folder))[0]) == 11


def test_an_event_without_its_last_frame_is_over_when_nothing_more_comes(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(*whole()[:6])
    receiver.wait(31)
    assert (receiver.told[-1].phase, receiver.told[-1].frames, receiver.told[-1].missing) == ("complete", 6, 0)


def test_on_a_thin_link_a_clip_is_not_made_anew_for_each_frame(tmp_path):
    receiver = Receiver(tmp_path)
    for one in whole(20)[:-1]:
        receiver.add(one)
        receiver.wait(40)
    receiver.wait(2000)
    assert len(receiver.told) <= 6
    assert receiver.told[-1].frames == 19


def test_an_event_that_goes_on_after_its_last_frame_gets_another_clip(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(*whole(5))
    receiver.add(*[picture(place, last=place == 8) for place in range(5, 9)])
    assert [(one.phase, one.frames) for one in receiver.told] == [("begun", 1), ("complete", 5), ("complete", 9)]


def test_an_event_that_goes_on_soon_after_its_last_frame_is_complete_once(tmp_path):
    receiver = Receiver(tmp_path)
    for one in (*whole(5), picture(5, last=True), *[picture(place, last=place == 8) for place in range(6, 9)]):
        receiver.store.add(one)
        receiver.wait(1)
    receiver.wait(3)
    assert [one.phase for one in receiver.told] == ["begun"]
    receiver.wait(2)
    assert [(one.phase, one.frames) for one in receiver.told] == [("begun", 1), ("complete", 9)]
    receiver.wait(121)
    assert not list(receiver.store.folder.rglob("*.frames"))
    assert len(receiver.told) == 2


def test_a_receiver_that_starts_anew_goes_on_with_what_it_had(tmp_path):
    pictures = whole()
    first = Receiver(tmp_path)
    first.add(*pictures[:4])
    second = Receiver(tmp_path)  # the first one was killed
    assert second.told == []
    second.add(*pictures[2:])
    assert [(one.phase, one.frames, one.missing) for one in second.told] == [("complete", 10, 0)]
    third = Receiver(tmp_path)
    third.wait(31)
    assert third.told == []
    records, more = third.store.events()
    assert [(one.id, one.phase, one.frames) for one in records] == [("5f3a9c01", "complete", 10)]
    assert not more


def test_one_that_was_killed_before_it_told_of_an_event_tells_of_it(tmp_path):
    first = Receiver(tmp_path)
    first.store.add(picture(4))
    second = Receiver(tmp_path)
    second.wait(1)
    assert [one.phase for one in second.told] == ["begun"]


def test_without_pyav_the_clip_is_an_animated_webp_file(tmp_path, monkeypatch):
    monkeypatch.setattr(event_clip, "find_spec", lambda name: None)
    receiver = Receiver(tmp_path)
    receiver.add(*whole())
    record = receiver.told[-1]
    assert record.links()["clip_type"] == "image/webp"
    with Image.open(record.clip_file(receiver.store.folder)) as clip:
        assert (clip.format, clip.n_frames, clip.size) == ("WEBP", 10, (128, 96))
        clip.seek(3)
        clip.load()
        assert clip.info["duration"] == 500
        assert b"drawn by edgesem" in clip.info["xmp"]


def test_frames_of_other_sizes_and_odd_sides_fit_into_the_clip(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(picture(0, shape=(97, 129, 3)), picture(1, shape=(64, 64, 3)), picture(2, last=True))
    assert receiver.told[-1].frames == 3
    with av.open(str(receiver.told[-1].clip_file(receiver.store.folder))) as container:
        codec_context = container.streams.video[0].codec_context
        assert (codec_context.width, codec_context.height) == (128, 96)


def test_a_camera_without_a_clock_has_its_events_now(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(*whole(clock=False))
    assert receiver.told[-1].time_ms == pytest.approx(unix_ms(), abs=60_000)
    assert receiver.told[-1].frames == 10


def test_events_are_listed_newest_first_by_stream_and_time(tmp_path):
    receiver = Receiver(tmp_path)
    for number in range(1, 6):
        receiver.add(*[replace_time(one, number) for one in whole(3, event=number)])
    records, more = receiver.store.events(limit=2)
    assert [one.id for one in records] == ["00000005", "00000004"]
    assert more
    older, more = receiver.store.events(before_ms=records[-1].time_ms, limit=10)
    assert [one.id for one in older] == ["00000003", "00000002", "00000001"]
    assert not more
    assert receiver.store.events(stream="home/gate/other") == ([], False)


def replace_time(one, minutes):
    time_ms = BEGUN_MS + one.packet.side_info.event.since_ms + 1000 * minutes
    side_info = replace(one.packet.side_info, time_high=time_ms >> 32)
    return replace(one, packet=replace(one.packet, time_ms=time_ms % 2**32, side_info=side_info))


def test_a_stranger_who_begins_events_without_end_takes_no_room_of_those_that_have_their_clip(tmp_path):
    receiver = Receiver(tmp_path)
    for number in range(1, 100):
        receiver.store.add(picture(4, event=number))
    assert len(receiver.store.open) == 32
    receiver.wait(31)
    assert len(receiver.told) == 64  # begun, and over
    receiver.add(*whole())
    assert (receiver.told[-1].id, receiver.told[-1].frames) == ("5f3a9c01", 10)
    assert len(receiver.store.open) == 32


def test_a_full_disk_costs_the_clip_until_there_is_room(tmp_path, monkeypatch, caplog):
    receiver = Receiver(tmp_path)
    receiver.add(*whole()[:-1])
    monkeypatch.setattr(event_store, "_FREE_BYTES", 2**62)
    receiver.wait(31)
    assert [one.phase for one in receiver.told] == ["begun"]
    assert "has no clip yet" in caplog.text
    receiver.add(whole()[-1])
    assert "left out of its clip" in caplog.text
    monkeypatch.undo()
    receiver.wait(61)
    assert (receiver.told[-1].phase, receiver.told[-1].frames) == ("complete", 9)


def test_frames_that_were_deleted_or_damaged_end_nothing(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(*whole()[:-1])
    folder = next(receiver.store.folder.rglob("*.frames"))
    for path in sorted(folder.iterdir())[:4]:
        path.unlink()
    receiver.wait(31)
    assert receiver.told[-1].phase == "complete"
    assert len(frames_of(receiver.told[-1].clip_file(receiver.store.folder))[0]) == 6
    shutil.rmtree(folder)
    receiver.add(*whole(event=7)[:-1])
    for path in next(one for one in receiver.store.folder.rglob("*.frames")).iterdir():
        path.write_bytes(b"damaged")
    receiver.wait(31)
    receiver.wait(100_000)
    assert receiver.store.open == {}


def test_an_event_of_which_retention_deletes_a_file_goes_as_a_whole(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.add(*whole())
    receiver.store.forget(receiver.store.folder / "home/gate/other" / f"{receiver.told[-1].name}.mp4")
    assert len(receiver.store.events()[0]) == 1
    path = receiver.told[-1].clip_file(receiver.store.folder)
    os.unlink(path)
    receiver.store.forget(path)
    assert receiver.store.events() == ([], False)
    assert receiver.files() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
        ).map(lambda tree: json.dumps(tree).encode()),
        st.fixed_dictionaries(
            {"id": st.text(max_size=9), "stream": st.text(max_size=20), "name": st.text(max_size=40)},
            optional={"time_ms": st.integers(), "cause": st.text(max_size=3), "clip": st.text(max_size=6)},
        ).map(lambda tree: json.dumps({"cause": "", "label": "", "time_ms": 1, **tree}).encode()),
    )
)
def test_any_file_is_a_record_or_refused(tmp_path, data):
    path = tmp_path / "20261130T160407.573Z-03a62aaf.json"
    path.write_bytes(data)
    try:
        record = EventRecord.read(path)
    except InputError:
        return
    assert record.record_file(tmp_path).is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "20261130T160407.573Z-03a62aaf/../x", ""])
def test_a_record_names_no_file_elsewhere(tmp_path, name):
    path = tmp_path / "x.json"
    good = EventRecord("03a62aaf", "home/gate/main", "20261130T160407.573Z-03a62aaf", 1, "ask", "")
    path.write_bytes(good.to_bytes())
    assert EventRecord.read(path) == good
    path.write_bytes(replace(good, name=name).to_bytes())
    with pytest.raises(InputError):
        EventRecord.read(path)

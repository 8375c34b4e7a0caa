"""Inter frames to others over a real broker, with the bundle that ships: late joins, lost words, new starts."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from edgesem.bundle.bundle import Bundle
from edgesem.cli.main import main
from edgesem.codec.options import PackOptions
from edgesem.files import read_picture
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.semantics.embedding import Labels, to_bytes
from runtime.bench.link.oracle_decoder import OracleDecoder, RecordingCodec
from runtime.capture.frame import PHOTOS, Frame
from runtime.congestion.control import Control
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.archive_drawer import ArchiveDrawer
from runtime.receiver.options import ReceiverOptions
from runtime.receiver.search import complete
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.sender.pipeline import SenderPipeline
from tests.support.publishing import DEADLINE_S, wait_for

TOPICS = Topics("home", "gate", "main")


def scene(number, side=96):
    """A photograph with something in it that moves."""
    picture = read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[100 : 100 + side, 100 : 100 + side].copy()
    at = 3 * number % (side - 16)
    picture[30:60, at : at + 16] = 255 - picture[30:60, at : at + 16]
    return picture


class Camera:
    """A sender whose packets are remembered, and whose ears can be closed to acknowledgements."""

    def __init__(self, address):
        self.codec, self.told, self.held = RecordingCodec(Bundle.open()), [], set()
        self.deaf, self.frames, self._come = False, 0, threading.Condition()
        self.sender = SenderPipeline(
            codec=self.codec, topics=TOPICS, control=Control(interval_s=0.01, max_bytes=2500), publish=self._publish,
            on_event=self._take,
        )  # fmt: skip
        self.connection = Connection(
            address, name="camera", subscribe=(TOPICS.ack, TOPICS.cmd), on_message=self._hear, on_up=self._up
        )

    def __enter__(self):
        self.sender.__enter__()
        self.connection.__enter__()
        return self

    def __exit__(self, *_):
        self.connection.__exit__(None, None, None)
        self.sender.__exit__(None, None, None)

    def _up(self):
        self.sender.connected(self.connection.rtt_s)

    def _publish(self, topic, payload, confirm):
        self.connection.publish(topic, payload, confirm=confirm)

    def _take(self, event):
        with self._come:
            self.told.append(event.as_dict())
            self._come.notify_all()

    def _hear(self, topic, payload):
        if topic == TOPICS.ack:
            if self.deaf:
                return
            ack = Ack.from_bytes(payload)
            if ack.held:
                self.held.add((ack.receiver, ack.frame))
        self.sender.on_message(topic, payload)

    def of(self, event):
        return [one for one in self.told if one["event"] == event]

    def film(self):
        """Send the next picture; the number of its frame, and of that which it refers to."""
        self.frames += 1
        self.sender.offer(Frame(scene(self.frames), str(self.frames), clock_ms()))

        def packed():
            return next(
                (one for one in self.told if one["event"] == "packed" and one["name"] == str(self.frames)), None
            )

        with self._come:
            assert self._come.wait_for(packed, DEADLINE_S)
            return packed()["frame"], packed()["refers_to"]


class Viewer(StreamReceiver):
    """A receiver that keeps what it shows."""

    def __init__(self, address):
        self.shown = []
        super().__init__(address, "home/gate/main", ReceiverOptions(decoders=1), on_picture=self.shown.append)

    @property
    def missing(self):
        return self.streams.find("home/gate/main").inbox.counters.missing_reference

    def has(self, frame):
        return any(one.packet.frame == frame for one in self.shown)


def film(camera, viewers, count):
    """Send so many pictures, each when all have shown the one before and the sender has heard of it."""
    kinds = []
    for _ in range(count):
        frame, refers_to = camera.film()
        kinds.append(refers_to is not None)
        for viewer in viewers:
            wait_for(lambda viewer=viewer, frame=frame: viewer.has(frame))
        if not camera.deaf:
            heard = len(viewers)
            wait_for(lambda frame=frame: sum(of == frame for _, of in camera.held) >= heard)  # noqa: B023
    return kinds


def film_until_shown(camera, viewer):
    """Send pictures until a receiver that knows nothing shows one: how many that took, as other frames are refused."""
    for count in range(1, 50):
        frame, _ = camera.film()
        before = viewer.missing if viewer.streams.find("home/gate/main") else 0
        wait_for(
            lambda frame=frame, before=before: (
                viewer.has(frame) or (viewer.streams.find("home/gate/main") and viewer.missing > before)
            )
        )
        if viewer.shown:
            return count
    raise AssertionError("it never shows anything")


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
def test_a_late_joiner_lost_acknowledgements_and_a_new_start_never_give_a_wrong_picture():
    with Broker(kind="mosquitto") as broker, Camera(broker.address) as camera:
        with Viewer(broker.address) as first:
            wait_for(lambda: first.connection.version)
            kinds = film(camera, [first], 5)
            assert not kinds[0]
            assert sum(kinds) >= 3  # on a machine so slow that a receiver counts as silent, one more is a keyframe
            with Viewer(broker.address) as late:
                wait_for(lambda: late.connection.version)
                film_until_shown(camera, late)
                assert late.missing >= 1
                assert {one["kind"] for one in camera.of("asked")} == {"key"}
                assert sum(film(camera, [first, late], 5)) >= 2
                camera.deaf = True
                known, _ = max(((frame, who) for who, frame in camera.held))
                before = len(camera.of("packed"))
                film(camera, [first, late], 5)
                # Nobody says what it holds: all refer to what was known before, and it is still there.
                referred = {one["refers_to"] for one in camera.of("packed")[before:]}
                assert referred <= {known, None}
                camera.deaf = False
            second = late
        refused = first.missing
        with Viewer(broker.address) as again:
            wait_for(lambda: again.connection.version)
            film_until_shown(camera, again)
            film(camera, [again], 3)
        codec = camera.codec
        oracle, shown = OracleDecoder(codec, codec.made), first.shown + second.shown + again.shown
        assert refused == 0
        assert sum(one.packet.side_info.reference is not None for one in shown) >= 7
        for one in shown:
            latent = oracle.latent(one.packet.epoch, one.packet.frame, len(one.packet.chunks))
            assert np.array_equal(one.image, codec.synthesize(latent))


def test_a_search_reports_what_it_cannot_draw_and_draws_the_rest(tmp_path, capsys):
    codec = RecordingCodec(Bundle.open())
    labels = Labels.of(codec.bundle)
    name = labels.names[0].split(",")[0]
    likeness = to_bytes(labels.query(name).vector)
    _, known = codec.pack_decoded(codec.analyze(scene(0)), quality=0.4, options=PackOptions(frame=1))
    refers = SideInformation(reference=Reference(1, 4), embedding=likeness)

    def pack(number, **more):
        options = PackOptions(frame=number + 1, time_ms=number + 1, **more)
        return codec.pack(codec.analyze(scene(number)), quality=0.4, options=options)

    second = pack(1, side_info=refers, reference=known)
    alone = pack(2, side_info=SideInformation(embedding=likeness))
    silent = SideInformation(reference=Reference(1, 4))  # says nothing of what it means, so it would have to be decoded
    third = pack(3, side_info=silent, reference=known)
    mute = pack(4)
    with Archive(tmp_path) as archive:
        for packet in (second, alone, third, mute):  # and not the keyframe
            archive.add("home/gate/main", packet, 1000.0 + packet.frame)
        assert complete(archive, {codec.bundle.id: codec}, lambda _: None) == 1
        found, vectors = archive.find()
        assert {one.frame for one, vector in zip(found, vectors, strict=True) if vector.any()} == {2, 3, 5}
    arguments = ["search", name, "--archive", str(tmp_path), "--out", str(tmp_path / "found"), "--json"]
    assert main(arguments) == 0
    rows = {row["frame"]: row for row in json.loads(capsys.readouterr().out)["hits"]}
    assert "refers to frame 1, which is not kept" in rows[2]["error"]
    assert "file" not in rows[2]
    assert np.array_equal(read_picture(Path(rows[3]["file"])), codec.synthesize(codec.unpack(alone)))
    assert len(rows) == 3


def test_a_run_of_archived_frames_is_drawn_as_each_alone_and_decoded_once(tmp_path, monkeypatch):
    codec = RecordingCodec(Bundle.open())
    codecs, known, number = {codec.bundle.id: codec}, None, 0
    with Archive(tmp_path) as archive:
        for number in range(1, 7):
            side = SideInformation(reference=None if known is None else Reference(number - 1, 4))
            options = PackOptions(frame=number, time_ms=number, side_info=side, reference=known)
            packet, known = codec.pack_decoded(codec.analyze(scene(number)), quality=0.4, options=options)
            archive.add("home/gate/main", packet, 1000.0 + number)
        entries = archive.entries()
        alone = [ArchiveDrawer(archive, codecs).draw(entry)[0] for entry in entries]
        unpacked, unpack = [], codec.unpack
        monkeypatch.setattr(
            codec, "unpack", lambda packet, *more: unpacked.append(packet.frame) or unpack(packet, *more)
        )
        drawer = ArchiveDrawer(archive, codecs)
        in_a_row = [drawer.draw(entry)[0] for entry in entries]
    assert all(np.array_equal(one, other) for one, other in zip(alone, in_a_row, strict=True))
    assert unpacked == [1, 2, 3, 4, 5, 6]

"""A receiver that comes late asks for its first picture as soon as it knows of the sender, and again if none comes."""

import numpy as np
import pytest

from edgesem.bundle.bundle import DEFAULT
from edgesem.entropy.schedule import reference_graph
from edgesem.files import read_picture
from edgesem.packet.seal import Seal
from runtime import ReceiverOptions, SenderOptions, StreamReceiver, StreamSender
from runtime.capture.frame import PHOTOS
from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.streams import Streams
from runtime.sender.events import CommandTaken, FramePacked
from tests.support.publishing import birth, codec, identity, plain, wait_for

KEY = bytes(range(32))
TOPICS = Topics("home", "mast", "main")


class Asked:
    """Streams of a receiver, and the commands that they have published."""

    def __init__(self, *, key=None, references=True):
        self.commands, self.key = [], key
        self.streams = Streams(bundle_ids=[7], publish=self._publish, references=references, key=key)
        self.device = identity()

    def _publish(self, topic, payload, qos):
        if topic.endswith("/cmd") and payload:
            self.commands.append((topic, payload, qos))

    def birth(self, topics=TOPICS, **about):
        one = birth(sealed=self.key is not None, **about)
        self.streams.on_message(topics.birth, one.to_bytes(self.device, base=topics.base, key=self.key))
        return one

    def state(self, topics=TOPICS, *, up=True, epoch=1, frames=9):
        self.streams.on_message(topics.state, State(up=up, epoch=epoch, time_ms=1, frames=frames).to_bytes())

    def later(self, seconds):
        """So much time passes."""
        for stream in self.streams.all():
            stream.asked_key_s -= seconds

    @property
    def keys(self):
        """The topics of the requests of a keyframe."""
        return [topic for topic, payload, _ in self.commands if b"key" in payload]


@pytest.mark.parametrize("first", ["birth", "state"])
def test_it_asks_once_whichever_comes_first_and_again_after_a_new_start(first):
    asked = Asked()
    for kind in [first, "state" if first == "birth" else "birth"]:
        assert not asked.keys
        getattr(asked, kind)()
    assert asked.keys == [TOPICS.cmd]
    for _ in range(3):
        asked.state()
    assert len(asked.keys) == 1
    asked.later(1)
    asked.birth(epoch=2, start=2)
    assert len(asked.keys) == 1  # that state is of the start before
    asked.state(epoch=2)
    assert len(asked.keys) == 2


def test_it_asks_five_times_ever_more_seldom_while_nothing_comes():
    asked = Asked()
    asked.birth()
    after = []
    for number in range(60):
        asked.state()
        after += [number] * (len(asked.keys) - len(after))
        asked.later(10)
    assert after == [0, 1, 3, 7, 15]


def test_it_asks_when_a_sender_says_that_it_has_sent_a_frame_which_it_did_not_say_before():
    asked = Asked()
    asked.birth()
    asked.state(frames=0)
    assert not asked.keys
    asked.state(frames=1)
    assert asked.keys == [TOPICS.cmd]


def test_strangers_who_claim_the_name_do_not_make_it_ask_more_often():
    asked = Asked()
    for start in range(1, 50):
        asked.device = identity()
        asked.birth(start=start)
        asked.state()
    assert len(asked.keys) == 1


def test_it_asks_nothing_of_a_sender_that_is_gone_begins_now_or_has_another_bundle():
    gone, begins, other, plain = Asked(), Asked(), Asked(), Asked(references=False)
    gone.birth()
    gone.state(up=False)
    begins.birth()
    begins.state(frames=0)
    other.birth(bundle_id=8)
    other.state()
    plain.birth()
    plain.state()
    assert [one.keys for one in (gone, begins, other, plain)] == [[]] * 4
    gone.state()
    assert gone.keys == [TOPICS.cmd]


def test_it_asks_nothing_where_it_holds_a_frame():
    asked = Asked()
    asked.birth()
    (stream,) = asked.streams.all()
    stream.references.put(1, 0, 4, HeldLatent(b"", b"", 64, 64, 0, None))
    asked.state()
    assert not asked.keys
    asked.birth(epoch=2, start=2)
    asked.state(epoch=2)
    assert asked.keys == [TOPICS.cmd]


def test_a_board_that_took_over_a_sealed_stream_is_asked_with_the_seal_of_its_own_birth():
    asked = Asked(key=KEY)
    seal = Seal(KEY, stream=TOPICS.base, salt=asked.birth().salt)
    asked.state(frames=0)
    for part in plain(0).split():
        asked.streams.on_message(TOPICS.layer(part.first_layer), seal.seal(part.to_bytes()))
    asked.device = identity()
    said = asked.birth(epoch=2)
    asked.state(epoch=2)
    ((topic, payload),) = [(topic, payload) for topic, payload, _ in asked.commands if b"key" in payload]
    assert Command.from_bytes(Seal(KEY, stream=TOPICS.base, salt=said.salt).verify(payload, topic)).kind == "key"


def test_in_a_sealed_stream_it_is_signed_with_what_the_birth_says():
    asked = Asked(key=KEY)
    asked.state()
    assert not asked.commands
    said = asked.birth()
    asked.state()
    ((topic, payload, _),) = asked.commands
    seal = Seal(KEY, stream=TOPICS.base, salt=said.salt)
    assert Command.from_bytes(seal.verify(payload, topic)).kind == "key"


def test_of_many_streams_it_asks_each_once_by_messages_that_no_broker_limits():
    asked, many = Asked(), [Topics("home", f"mast-{number}", "main") for number in range(200)]
    births = [birth(sealed=False).to_bytes(asked.device, base=topics.base) for topics in many]
    for _ in range(3):
        for topics, said in zip(many, births, strict=True):
            asked.state(topics)
            asked.streams.on_message(topics.birth, said)
    assert sorted(asked.keys) == sorted(topics.cmd for topics in many)
    assert {qos for _, _, qos in asked.commands} == {0}


class Camera:
    """A sender of one frame a minute: the first one goes at once, and in a test no other."""

    def __init__(self, address, folder, key):
        self.did = []
        self.sender = StreamSender(
            address, TOPICS, SenderOptions(fps=1 / 60), codec=codec(), folder=folder, key=key, on_event=self.did.append
        )

    def of(self, kind):
        return [event for event in list(self.did) if isinstance(event, kind)]


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not (DEFAULT / reference_graph(0)).is_file(), reason="the default bundle has no references")
@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_over_a_broker_a_late_receiver_gets_a_picture_long_before_the_next_frame(broker, tmp_path, monkeypatch, key):
    monkeypatch.setattr("runtime.sender.references.KEY_AT_ONCE_S", 0.0)  # as if the first keyframe was long ago
    picture = np.ascontiguousarray(read_picture(sorted(PHOTOS.glob("*.jpg"))[0])[100:196, 100:196])
    address, options = broker.address, ReceiverOptions(decoders=1)
    camera = Camera(address, tmp_path, key)
    with camera.sender, StreamReceiver(address, TOPICS.name, options, key=key) as first:
        wait_for(lambda: first.streams.find(TOPICS.name))
        camera.sender.offer(picture)
        assert first.next_picture(30.0).packet.frame == 0
        camera.sender.report_state()  # as it does each ten seconds
        with StreamReceiver(address, TOPICS.name, options, key=key) as late:
            shown = late.next_picture(30.0)
            assert shown is not None
            assert (shown.packet.frame, shown.packet.side_info.reference) == (1, None)
            assert late.streams.find(TOPICS.name).inbox.counters.missing_reference == 0
    assert [event.kind for event in camera.of(CommandTaken)] == ["key"]
    assert [event.refers_to for event in camera.of(FramePacked)] == [None, None]

"""Shards of a fleet at a real broker: each stream is taken by one receiver, and no other hears its packets."""

import contextlib
import itertools
import queue
from dataclasses import replace

import pytest

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.shard import Shard, shard_of
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.shard_subscriptions import ShardMemory, ShardSubscriptions
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.stream_receiver import StreamReceiver
from tests.support.publishing import birth, frame, identity, plain, wait_for

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
SHARDS = 2
KEY = bytes(range(32))


class Cameras:
    """Some cameras of one site over one connection, whose acknowledgements are in `acks` as (device, receiver)."""

    def __init__(self, broker, site, count):
        self.all = [Topics(site, f"cam{number}", "main") for number in range(count)]
        self.acks, self.identity = queue.Queue(), identity()
        filters = [f"edgesem/v1/{site}/+/+/ack"]
        self.link = Connection(broker.address, name="cameras", subscribe=filters, on_message=self._hear)

    def _hear(self, topic, payload):
        self.acks.put((Topics.parse(topic)[0].device, Ack.from_bytes(payload).receiver))

    def bear(self, camera, retain=True, sealed=False):
        key = KEY if sealed else None
        payload = birth(sealed=sealed).to_bytes(self.identity, base=camera.base, key=key)
        self.link.publish(camera.birth, payload, retain=retain)

    def film(self, number, cameras=None):
        for camera in cameras or self.all:
            self.link.publish(camera.layer(0), replace(frame(number)).to_bytes())

    def film_until_answered(self, cameras=None):
        """Film again and again, as cameras do: a frame that is there before its receiver has subscribed is lost.

        Returns the acknowledgements until each camera had one, as (device, receiver)."""
        answers, numbers = [], itertools.count()

        def answered():
            with contextlib.suppress(queue.Empty):
                while True:
                    answers.append(self.acks.get_nowait())
            left = [camera for camera in cameras or self.all if camera.device not in dict(answers)]
            if left:
                self.film(next(numbers), left)
            return not left

        wait_for(answered)
        return answers

    def __enter__(self):
        self.link.__enter__()
        return self

    def __exit__(self, *_):
        self.link.__exit__(None, None, None)


def shard(broker, index, count=SHARDS, site="s", **options):
    options = ReceiverOptions(decoders=1, shard=Shard(index, count), **options)
    return StreamReceiver(broker.address, f"{site}/+/+", options, on_picture=lambda picture: None)


def names(receiver):
    return {stream.topics for stream in receiver.streams.all()}


def test_each_stream_is_taken_by_one_receiver(broker):
    with contextlib.ExitStack() as stack:
        cameras = stack.enter_context(Cameras(broker, "s", 8))
        for camera in cameras.all[:6]:
            cameras.bear(camera)
        receivers = [stack.enter_context(shard(broker, index)) for index in range(SHARDS)]
        wait_for(lambda: sum(len(names(receiver)) for receiver in receivers) == 6)
        for camera in cameras.all[6:]:  # cameras that come later
            cameras.bear(camera, retain=False)
        wait_for(lambda: sum(len(names(receiver)) for receiver in receivers) == 8)
        for index, receiver in enumerate(receivers):
            assert names(receiver) == {camera for camera in cameras.all if shard_of(camera, SHARDS) == index}
            assert names(receiver)
        answers = cameras.film_until_answered()
        with contextlib.suppress(queue.Empty):
            while True:  # those that say that a frame is held come of the same receiver
                answers.append(cameras.acks.get(timeout=0.5))
        by_device = {device: {one for name, one in answers if name == device} for device, _ in answers}
        assert set(by_device) == {camera.device for camera in cameras.all}
        assert all(len(numbers) == 1 for numbers in by_device.values())
        assert len(set.union(*by_device.values())) == SHARDS
        assert [receiver.streams.strays for receiver in receivers] == [0] * SHARDS


def test_the_packets_of_other_shards_are_not_heard(broker):
    with Cameras(broker, "big", 1) as cameras:
        [camera] = cameras.all
        cameras.bear(camera)
        other = 1 - shard_of(camera, SHARDS)
        with shard(broker, 1 - other, site="big") as owner, shard(broker, other, site="big") as idle:
            wait_for(lambda: names(owner) == {camera} and idle.connection.connected)
            before = idle.connection.wire_bytes()
            packet = plain(bundle_id=frame(0).bundle_id, chunks=tuple(bytes(20_000) for _ in range(4)))
            numbers = itertools.count()

            def heard():
                cameras.link.publish(camera.layer(0), replace(packet, frame=next(numbers)).to_bytes())
                return owner.streams.all()[0].inbox.counters.size_bytes > 800_000

            wait_for(heard)
            assert idle.connection.wire_bytes() - before < 2000
            assert names(idle) == set()


def test_a_stream_whose_birth_is_not_retained_is_found_by_its_state(broker):
    with Cameras(broker, "dark", 3) as cameras:
        camera = next(one for one in cameras.all if Shard(0, SHARDS).owns(one))
        with shard(broker, 0, site="dark") as receiver:
            wait_for(lambda: receiver.connection.connected)
            wait_for(lambda: cameras.link.publish(camera.state, State(True, 1, 0).to_bytes()) or names(receiver))
            assert names(receiver) == {camera}


def test_a_sealed_stream_is_subscribed_to_once_its_birth_is_authenticated(broker):
    with Cameras(broker, "safe", 4) as cameras:
        known, forged = [one for one in cameras.all if Shard(0, 1).owns(one)][:2]
        options = ReceiverOptions(decoders=1, shard=Shard(0, 1))
        with StreamReceiver(broker.address, "safe/+/+", options, key=KEY, on_picture=lambda _: None) as receiver:
            wait_for(lambda: receiver.connection.connected)
            cameras.bear(forged)
            cameras.bear(known, sealed=True)
            wait_for(lambda: names(receiver))
            assert names(receiver) == {known}


def test_a_stream_that_gave_way_is_heard_no_more(broker):
    one_stream = Limits(streams=1)
    with (
        Cameras(broker, "full", 2) as cameras,
        shard(broker, 0, count=1, site="full", limits=one_stream) as receiver,
    ):
        wait_for(lambda: receiver.connection.connected)
        first, second = cameras.all
        cameras.bear(first, retain=False)
        wait_for(lambda: names(receiver) == {first})
        receiver.streams.all()[0].heard_s -= 3600  # it was silent
        cameras.bear(second, retain=False)
        wait_for(lambda: names(receiver) == {second})
        answers = cameras.film_until_answered([second])
        assert {device for device, _ in answers} == {second.device}
        before = receiver.streams.all()[0].inbox.counters.layers
        cameras.film(1000)  # of the first, too: its filters were taken away before the answer
        wait_for(lambda: receiver.streams.all()[0].inbox.counters.layers > before)
        assert receiver.streams.strays == 0


def test_states_of_all_streams_are_heard_for_a_moment_only():
    filters = StreamFilter(["s/+/+", "t/gate/main"], shard=Shard(0, 1))
    calls = []

    class Link:
        retained_by_wildcard = False

        def subscribe(self, *topics):
            calls.append(("subscribe", *topics))

        def unsubscribe(self, *topics):
            calls.append(("unsubscribe", *topics))

    now_s = [0.0]
    subscriptions = ShardSubscriptions(filters, Link, listen_s=25, clock=lambda: now_s[0])
    subscriptions.up()
    subscriptions.heard()
    assert calls == [("subscribe", "edgesem/v1/s/+/+/state")]
    now_s[0] = 25.0
    subscriptions.heard()
    subscriptions.heard()
    assert calls[1:] == [("unsubscribe", "edgesem/v1/s/+/+/state")]


def test_where_births_are_retained_nothing_else_is_heard_of_other_shards(broker):
    with Cameras(broker, "kept", 8) as cameras:
        others = [camera for camera in cameras.all if not Shard(0, SHARDS).owns(camera)]
        for camera in cameras.all:
            cameras.bear(camera)
            cameras.link.publish(camera.state, State(True, 1, 0).to_bytes(), retain=True)
        with shard(broker, 0, site="kept") as receiver:
            wait_for(lambda: len(names(receiver)) == len(cameras.all) - len(others))

            def all_have_the_new_state():  # one that is published before the broker has our subscription is lost
                for camera in cameras.all:
                    cameras.link.publish(camera.state, State(True, 1, 1).to_bytes())
                return all(stream.state and stream.state.time_ms == 1 for stream in receiver.streams.all())

            wait_for(all_have_the_new_state)
            births = [birth(sealed=False).to_bytes(cameras.identity, base=camera.base) for camera in others]
            assert receiver.streams.others_bytes == sum(map(len, births))


def test_a_receiver_that_starts_anew_hears_its_streams_at_once(broker, tmp_path):
    """At a broker that hands out no retained messages, as to a filter with a + at RabbitMQ."""

    def start():
        options = ReceiverOptions(decoders=1, shard=Shard(0, 1))
        return StreamReceiver(
            broker.address, "again/+/+", options, state_folder=tmp_path, on_picture=lambda picture: None
        )

    with Cameras(broker, "again", 2) as cameras:
        with start() as receiver:
            wait_for(lambda: receiver.connection.connected)
            for camera in cameras.all:
                cameras.bear(camera, retain=False)
            wait_for(lambda: len(names(receiver)) == 2)
        with start() as receiver:
            wait_for(lambda: receiver.connection.connected)
            cameras.film(0)
            wait_for(lambda: len(names(receiver)) == 2)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'["a"]', b'["a/b/c"', b"\xff", b"[" * 100_000])
def test_a_damaged_memory_costs_nothing_else(tmp_path, data):
    (tmp_path / "shard-streams.json").write_bytes(data)
    memory = ShardMemory(tmp_path, 10)
    assert memory.load() == []
    memory.save({"home/a/main"})
    assert memory.load() == [Topics("home", "a", "main")]


def test_streams_that_are_gone_are_forgotten(tmp_path):
    memory = ShardMemory(tmp_path, 10)
    memory.save({"s/old/main", "other/x/main"})

    class Link:
        retained_by_wildcard = False

        def subscribe(self, *topics):
            pass

        unsubscribe = subscribe

    subscriptions = ShardSubscriptions(StreamFilter(["s/+/+"], shard=Shard(0, 1)), Link, memory, listen_s=0)
    old = [f"edgesem/v1/s/old/main/{kind}" for kind in ("birth", "state", "pkt/+")]
    assert subscriptions.topics == ["edgesem/v1/s/+/+/birth", *old]
    subscriptions.admitted(Topics("s", "new", "main"))
    subscriptions.save()
    assert [one.device for one in memory.load()] == ["new", "old"]
    subscriptions.up()
    subscriptions.heard()
    subscriptions.save()
    assert [one.device for one in memory.load()] == ["new"]


def test_a_connection_that_was_short_forgets_no_stream(tmp_path):
    """What comes after it before the next one is up does not end the listening."""
    memory = ShardMemory(tmp_path, 10)
    memory.save({"s/old/main"})
    calls = []

    class Link:
        retained_by_wildcard = False

        def subscribe(self, *topics):
            calls.append(("subscribe", *topics))

        def unsubscribe(self, *topics):
            calls.append(("unsubscribe", *topics))

    now_s = [0.0]
    filters = StreamFilter(["s/+/+"], shard=Shard(0, 1))
    subscriptions = ShardSubscriptions(filters, Link, memory, listen_s=25, clock=lambda: now_s[0])
    subscriptions.up()
    subscriptions.down("")
    now_s[0] = 60.0
    subscriptions.heard()
    subscriptions.up()
    subscriptions.save()
    assert {call[0] for call in calls} == {"subscribe"}
    assert [one.device for one in memory.load()] == ["old"]


def test_a_shard_names_its_filters():
    assert StreamFilter(["s/+/+"], shard=Shard(0, 2)).topics() == ["edgesem/v1/s/+/+/birth"]
    gate = Topics("home", "gate", "main")
    filters = [StreamFilter(["home/gate/main"], shard=Shard(index, 2)).topics() for index in (0, 1)]
    assert filters[1 - shard_of(gate, 2)] == []
    assert filters[shard_of(gate, 2)] == [f"{gate.base}/{kind}" for kind in ("birth", "state", "pkt/+")]

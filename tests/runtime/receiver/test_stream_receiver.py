"""The receiver as a library: pictures in a loop, in an asyncio task, or by a callback, over a real broker."""

import asyncio
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from edgesem.errors import UsageError
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.topics import Topics
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.received_picture import PictureHandOver
from runtime.receiver.stream_receiver import StreamReceiver
from tests.support.publishing import DEADLINE_S, frame, wait_for

needs_broker = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
ONE = ReceiverOptions(decoders=1)
TOPICS = Topics("test", "library", "main")


@contextmanager
def camera(address):
    """Frames of one stream in order, each sent until the receiver acknowledges it."""
    heard, left = threading.Event(), threading.Event()

    def film():
        for number in range(10_000):
            link.publish(TOPICS.layer(0), frame(number).to_bytes())
            heard.wait(0.2)
            heard.clear()
            if left.is_set():
                return

    with Connection(address, name="camera", subscribe=TOPICS.ack, on_message=lambda *_: heard.set()) as link:
        thread = threading.Thread(target=film)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()


@needs_broker
def test_pictures_come_in_a_loop_until_it_is_stopped(broker):
    with camera(broker.address), StreamReceiver(broker.address, "test/+/+", ONE) as receiver:
        numbers = []
        for picture in receiver:
            numbers.append(picture.packet.frame)
            assert (picture.stream, picture.image.shape) == ("test/library/main", (112, 160, 3))
            assert picture.provenance.frame == picture.packet.frame
            if len(numbers) == 3:
                receiver.stop()
        assert numbers == sorted(set(numbers))
        assert receiver.next_picture() is None


@needs_broker
def test_pictures_come_in_a_task_while_others_run(broker):
    async def main():
        ticks, numbers = 0, []

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        async with StreamReceiver(broker.address, "test/+/+", ONE) as receiver:
            # A wait that is cancelled takes no picture with it; nobody sends yet.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receiver.__anext__(), 0.05)
            ticking = asyncio.create_task(tick())
            with camera(broker.address):
                async for picture in receiver:
                    numbers.append(picture.packet.frame)
                    if len(numbers) == 3:
                        receiver.stop()
                ticking.cancel()
        return ticks, numbers

    ticks, numbers = asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert numbers == sorted(set(numbers))
    assert ticks > 100


@needs_broker
def test_with_a_callback_there_is_nothing_to_iterate_over(broker):
    taken = threading.Event()
    with StreamReceiver(broker.address, "test/+/+", ONE, on_picture=lambda _: taken.set()) as receiver:
        with pytest.raises(UsageError, match="on_picture"):
            next(iter(receiver))
        with camera(broker.address):
            assert taken.wait(DEADLINE_S)


def test_a_hand_over_lets_go_of_all_when_it_is_closed():
    slot, ended = PictureHandOver(), []
    slot.put("first")

    def put():
        slot.put("second")  # waits: nobody takes the first
        ended.append("put")

    thread = threading.Thread(target=put)
    thread.start()
    assert slot.get(timeout_s=0) == "first"
    assert slot.get(DEADLINE_S) == "second"
    thread.join(DEADLINE_S)
    assert ended == ["put"]
    assert slot.get(timeout_s=0) is None
    slot.put("third")
    threads = [threading.Thread(target=put), threading.Thread(target=lambda: ended.append(asyncio.run(waits())))]

    async def waits():
        return await slot.get_async()

    assert slot.get() == "third"
    threads[1].start()
    slot.close()
    threads[0].start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(ended, key=str) == [None, "put", "put"]
    assert slot.get() is None


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(ReceiverOptions, {"layers": 0}), (ReceiverOptions, {"layers": 5}), (ReceiverOptions, {"decoders": 0}),
     (Limits, {"streams": 0}), (Limits, {"max_pixels": 100})],
)  # fmt: skip
def test_options_out_of_range_are_refused(kind, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).rpartition("max_")[2]):
        kind(**wrong)


class Blocked:
    """A consumer that takes no picture until it is let go."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _picture):
        self.reached.set()
        self.go_on.wait(DEADLINE_S)


@needs_broker
def test_a_consumer_that_hangs_is_seen_and_does_not_hold_up_the_end(broker):
    blocked = Blocked()
    receiver = StreamReceiver(broker.address, "test/+/+", ONE, on_picture=blocked)
    with camera(broker.address):
        with receiver:
            assert blocked.reached.wait(DEADLINE_S)
            wait_for(lambda: receiver.stalled_s > 1)
            assert receiver.trouble == ""
            ending_s = time.monotonic()
        assert time.monotonic() - ending_s < 15
    blocked.go_on.set()


@needs_broker
def test_a_decoder_that_hangs_does_not_hold_up_the_end(broker):
    taken = threading.Event()
    with camera(broker.address):
        with StreamReceiver(broker.address, "test/+/+", ONE, on_picture=lambda _: taken.set()) as receiver:
            assert taken.wait(DEADLINE_S)
            os.kill(receiver._pool._first._process.pid, signal.SIGSTOP)
            wait_for(lambda: receiver.stalled_s > 1)
            ending_s = time.monotonic()
        assert time.monotonic() - ending_s < 15


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@needs_broker
def test_a_thread_that_has_ended_is_told(broker, tmp_path):
    def end(*_):
        raise SystemExit

    with StreamReceiver(broker.address, "test/+/+", ONE, folder=tmp_path, on_picture=lambda _: None) as receiver:
        assert receiver.trouble == ""
        receiver._store.put(TOPICS, frame(1, promised=True), end)
        assert "promised" in wait_for(lambda: receiver.trouble)


@needs_broker
def test_as_many_decoders_are_started_as_have_work_and_no_more_than_allowed(broker):
    blocked = Blocked()
    options = ReceiverOptions(decoders=3)
    with StreamReceiver(broker.address, "test/+/+", options, on_picture=blocked) as receiver:
        with Connection(broker.address, name="cameras") as link:

            def film(device):
                for number in range(1000):
                    link.publish(Topics("test", device, "main").layer(0), frame(number).to_bytes())
                    if receiver.streams.find(f"test/{device}/main") is not None:
                        return
                    time.sleep(0.05)

            film("one")
            assert blocked.reached.wait(DEADLINE_S)
            assert receiver.decoders == 1
            for number, device in enumerate(("two", "three", "four"), 2):
                film(device)
                wait_for(lambda wanted=min(number, 3): receiver.decoders == wanted)
        blocked.go_on.set()
        wait_for(lambda: all(stream.pictures for stream in receiver.streams.all()))
        assert receiver.decoders == 3

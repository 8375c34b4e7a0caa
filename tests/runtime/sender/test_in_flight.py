"""Messages under way: how old the newest frame is that a receiver has, and when what is confirmed was sent."""

import threading

from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.sender.in_flight import InFlight
from tests.support.publishing import plain
from tests.support.sender_bench import Bench


def test_the_age_goes_on_when_frames_are_numbered_anew():
    table, before_ms = InFlight(3), clock_ms() - 50_000
    table.add(plain(2**32 - 1, epoch=3, time_ms=before_ms), 100, 1.0)
    table.acknowledge(Ack(3, 2**32 - 1, 0, before_ms, 0))
    assert table.age_s > 49
    table.begin_epoch(4)
    table.add(plain(0, epoch=4, time_ms=clock_ms()), 100, 2.0)
    table.acknowledge(Ack(4, 0, 0, clock_ms(), 0))
    assert table.age_s < 40


def test_a_message_that_is_sent_again_while_the_first_is_confirmed_was_not_confirmed_before_it_was_sent():
    """A promised frame is published again on one thread while its acknowledgement comes in on another."""
    now_s, again, seen = [10.0], [], []

    def clock():
        at_s = now_s[0]
        if again:
            thread = threading.Thread(target=again.pop())
            thread.start()
            thread.join()
        return at_s

    bench = Bench(start=False, clock=clock)
    publisher = bench.sender.publisher
    bench.sender.connected()
    bench.offer()
    bench.encode()
    part, confirm = bench.next()

    def send_again():
        if publisher.lock.acquire(blocking=False):  # as `_take` does it, which needs the lock
            now_s[0] += 1
            publisher.in_flight.add(part, 100, now_s[0])
            publisher.lock.release()

    bench.control.acked = lambda now_s, *, size_bytes, sent_s: seen.append((sent_s, now_s))
    again.append(send_again)
    confirm()
    ((sent_s, confirmed_s),) = seen
    assert sent_s <= confirmed_s

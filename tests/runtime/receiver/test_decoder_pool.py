"""Decoder pool: its threads, as they begin and as they end, whatever they are held up by."""

import threading
import time
from types import SimpleNamespace

from runtime.receiver import decoder_pool
from runtime.receiver.decoder_pool import DecoderPool
from tests.support.publishing import wait_for


def test_many_threads_that_are_held_up_are_waited_for_together(monkeypatch):
    monkeypatch.setattr(decoder_pool, "_LAST_S", 0.5)
    go_on, drawing = threading.Event(), []

    def draw(decoder, stream, packet):
        drawing.append(packet)
        go_on.wait()

    streams = SimpleNamespace(refill=lambda: None, next_frame=lambda _: (None, 1), has_ready=lambda: True)
    pool = DecoderPool([None], most=8)
    pool.begin(streams, draw)
    wait_for(lambda: len(drawing) == 8)
    began_s = time.monotonic()
    pool.__exit__()
    assert time.monotonic() - began_s < 3
    go_on.set()
    for thread in pool._threads:
        thread.join()


def test_a_thread_that_is_being_started_does_not_look_as_if_it_had_ended(monkeypatch):
    seen, begun = [], threading.Event()
    start = threading.Thread.start

    def slow_start(thread):
        seen.append(pool.alive)  # a busy machine takes its time here, and the receiver looks meanwhile
        start(thread)

    def draw(decoder, stream, packet):
        begun.wait()

    streams = SimpleNamespace(refill=lambda: None, next_frame=lambda _: (None, 1), has_ready=lambda: True)
    pool = DecoderPool([None], most=3)
    monkeypatch.setattr(threading.Thread, "start", slow_start)
    pool.begin(streams, draw)
    wait_for(lambda: pool.size == 3)
    begun.set()
    pool.__exit__()
    assert seen == [True, True, True]

"""Wake of `edgesem send --once`, on a pipeline whose link and clock the test plays."""

import threading

import numpy as np

from runtime.capture.frame import Frame
from runtime.daemon.send_once import Wake
from runtime.daemon.send_settings import OnceSettings
from runtime.protocol.clock import clock_ms
from runtime.sender.events import FrameSkipped
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.spool import Spool
from tests.support.sender_bench import TOPICS, WAIT_S, Codec, Control


class Played:
    """A wake with its pipeline, in simulated time; without threads."""

    def __init__(self, spool=None, pipeline=SenderPipeline):
        self.now_s, self.published = 100.0, []
        self.pipeline = pipeline(
            codec=Codec(),
            topics=TOPICS,
            control=Control(),
            publish=lambda topic, payload, confirm: self.published.append(confirm),
            on_event=lambda event: self.wake.take_event(event),
            spool=spool,
            clock=lambda: self.now_s,
        )
        settings = OnceSettings(frames=1, deadline_s=10_000)
        self.wake = Wake(
            settings,
            self.pipeline,
            promised=spool is not None,
            max_bytes=8000,
            period_s=1.0,
            clock=lambda: self.now_s,
        )
        self.pipeline.connected(0.01)

    def capture(self):
        self.wake.captured(Frame(np.zeros((64, 64, 3), np.uint8), "f", clock_ms()))

    def step(self, *, source_ended=False, refused=""):
        """One step of all; whether the wake has ended. `refused`: what the broker says to each message."""
        self.now_s += 20.0
        ended = self.wake.step(source_ended=source_ended)
        while self.pipeline.encode_step() or self.pipeline.publish_step():
            pass
        while self.published:
            self.published.pop()(refused)
        return ended


def test_an_event_that_comes_while_it_looks_at_the_pipeline_finds_its_lock_free():
    told = []

    class Telling(SenderPipeline):
        @property
        def idle(self):
            thread = threading.Thread(target=played.wake.take_event, args=(FrameSkipped(0),), daemon=True)
            thread.start()
            thread.join(WAIT_S / 10)
            told.append(not thread.is_alive())
            return super().idle

    played = Played(pipeline=Telling)
    played.capture()
    for _ in range(3):
        played.step()
    assert told
    assert all(told)


def test_a_frame_that_the_disk_refuses_is_left_and_not_waited_for(tmp_path):
    spool = Spool(tmp_path / "promised.sqlite", max_bytes=1_000_000)
    played = Played(spool)
    spool.close()  # from here on it takes nothing
    played.pipeline.disconnected()
    played.capture()
    assert not played.step()
    assert played.step()
    report = played.wake.report("")
    assert (report["left"], report["promised_waiting"]) == (1, 0)
    assert "no room" in report["trouble"]


def test_a_frame_that_the_broker_refuses_again_and_again_is_left(tmp_path):
    played = Played(Spool(tmp_path / "promised.sqlite", max_bytes=1_000_000))
    played.capture()
    steps = 0
    while not played.step(refused="not authorized"):
        steps += 1
        assert steps < 100
    assert "not authorized" in played.wake.report("")["trouble"]
    assert played.wake.left() == 1


def test_a_source_that_ends_without_a_frame_is_not_waited_for():
    played = Played()
    assert not played.step()
    assert played.step(source_ended=True)
    assert played.wake.left() == 1

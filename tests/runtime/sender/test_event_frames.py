"""Events in the pipeline of a sender: their frames are promised and marked, live pictures go on, commands work."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import DIMENSIONS
from runtime.protocol.ack import Ack
from runtime.sender.event_recorder import EventOptions
from runtime.sender.events import CommandTaken, EventBegun, FramePacked, FramePromised
from runtime.sender.novelty import Novelty
from runtime.sender.semantic_trigger import SemanticTrigger, TriggerDecision
from runtime.sender.spool import Spool
from tests.support.sender_bench import TOPICS, Codec, Control, SimulatedSender


class Looker:
    """A trigger that sends all, and counts what it was shown."""

    def __init__(self):
        self.levels, self.on_seen, self.loud_novelty = [], None, 0.0

    def look(self, latent, now_s, *, connected=True):
        self.levels.append(latent.level)
        return TriggerDecision(True, False, 1.0, 1.0, "", 0.0, np.eye(1, DIMENSIONS, dtype=np.float32)[0], b"")

    def sent(self, *_):
        pass

    def delivered(self, *_):
        pass


class Stand(SimulatedSender):
    """A sender of a camera of 4 frames a second, whose brightness grows by 1 with each; a receiver keeps all."""

    def __init__(self, folder, trigger=None, events=True):
        spool = Spool(folder / "s.sqlite", max_bytes=1 << 20)
        options = EventOptions(before_s=2, after_s=2, fps=4, frame_bytes=2000) if events else None
        control = Control(interval_s=0.25)
        super().__init__(codec=Codec(layers=1), control=control, spool=spool, trigger=trigger, events=options)
        self.level = 0

    def step(self):
        while self.pipeline.encode_step() or self.pipeline.publish_step():
            packet = Packet.from_bytes(self.messages[-1][1]) if self.messages else None
            if packet is not None and packet.promised:
                ack = Ack(packet.epoch, packet.frame, 0, 1, 1, kept=1)
                self.pipeline.on_message(TOPICS.ack, ack.to_bytes())

    def run(self, frames):
        for _ in range(frames):
            self.level += 1
            self.show(level=self.level)

    def of(self, kind):
        return [event for event in self.told if isinstance(event, kind)]


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path)
    yield made
    made.spool.close()


def promised(stand):
    marked = [packet for packet in stand.published if packet.promised and packet.side_info.event is not None]
    return sorted({packet.frame: packet for packet in marked}.values(), key=lambda one: one.side_info.event.place)


def test_frames_from_before_and_after_are_promised_each_with_its_mark_and_whole_time(stand):
    stand.run(20)
    assert not stand.of(FramePromised)
    stand.command("event", label="door bell")
    stand.run(20)
    packets = promised(stand)
    marks = [packet.side_info.event for packet in packets]
    assert [mark.place for mark in marks] == list(range(len(marks)))
    assert 15 <= len(marks) <= 17
    assert marks[-1].last
    assert {mark.label for mark in marks} == {"door bell"}
    assert all(packet.side_info.time_high is not None and packet.side_info.reference is None for packet in packets)
    levels = [packet.chunks[0][0] for packet in packets]
    assert levels == list(range(levels[0], levels[0] + len(levels)))
    assert levels[0] < 20 < levels[-1]
    assert [event.kind for event in stand.of(CommandTaken)] == ["event"]
    assert stand.pipeline.state().events == 1
    assert stand.spool.waiting == 0


def test_live_pictures_go_on_while_the_past_is_coded(stand):
    stand.run(20)
    stand.command("event")
    before = len(stand.published)
    stand.run(1)
    kinds = [packet.promised for packet in stand.published[before:]]
    assert kinds.count(False) == 1
    assert kinds.index(False) <= 3  # not after all the past


def test_what_was_looked_at_as_it_came_is_not_looked_at_again(tmp_path):
    looker = Looker()
    stand = Stand(tmp_path, looker)
    stand.run(12)
    looker.on_seen("watch", "a truck", True)
    stand.run(12)
    looker.on_seen("watch", "a truck", False)
    assert looker.levels == list(range(1, 25))
    assert looker.loud_novelty == 2.0
    assert [event.label for event in stand.of(EventBegun)] == ["a truck"]
    assert len(promised(stand)) > 10
    stand.spool.close()


def test_a_pause_sends_nothing_of_it_and_a_rest_by_the_schedule_sends_events_alone(stand):
    stand.run(8)
    stand.command("pause", pause_s=3)
    stand.run(8)  # 2 s
    stand.command("event")
    assert not stand.of(EventBegun)
    stand.run(8)
    stand.pipeline.set_fps(0)
    before = len(stand.of(FramePacked))
    stand.run(8)
    assert len(stand.of(FramePacked)) == before
    stand.command("event")
    stand.run(12)
    assert len(stand.of(FramePacked)) - before == len(stand.of(FramePromised)) == len(promised(stand)) > 10
    assert min(packet.chunks[0][0] for packet in promised(stand)) > 20  # none of the pause


def test_without_events_nothing_is_kept_and_a_command_for_one_is_refused(tmp_path, caplog):
    stand = Stand(tmp_path, events=False)
    stand.run(4)
    stand.command("event")
    stand.run(4)
    assert stand.pipeline.recorder is None
    assert "makes no events: start it with --events" in caplog.text
    assert not stand.of(CommandTaken)
    assert "E" not in str(stand.pipeline.state().to_bytes())
    stand.spool.close()


def test_a_change_is_told_of_once_it_is_known_what_is_usual(monkeypatch):
    trigger = SemanticTrigger.__new__(SemanticTrigger)  # without its networks
    seen = []
    trigger.on_seen, trigger.loud_novelty, trigger._changing = (lambda *told: seen.append(told)), 2.0, False
    trigger.novelty = Novelty()

    def look(*novelties):
        seen.clear()
        for novelty in novelties:
            trigger._look_for_change(SimpleNamespace(novelty=novelty))
        return [begins for _, _, begins in seen]

    assert look(5.0) == []  # nothing was learned
    monkeypatch.setattr(Novelty, "has_learned", True)
    assert look(0.5, 1.5, 0.5) == []
    assert look(1.5, 2.5, 1.2, 3.0, 0.5, 4.0) == [True, False, False, True]
    assert look(0.1, float("inf")) == []

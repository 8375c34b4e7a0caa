"""Events of a sender: the past, what follows, what is one event, and the bounds. In simulated time."""

import numpy as np
import pytest

from edgesem.errors import UsageError
from runtime.capture.frame import Frame
from runtime.sender.event_recorder import EventOptions, EventRecorder
from runtime.sender.events import EventBegun, EventEnded

NOISE = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)


class Camera:
    """A camera of 10 frames a second, and its recorder of 2; each frame's name is its time."""

    def __init__(self, **options):
        self.now_s, self.paused, self.woken, self.events = 100.0, False, 0, []
        self.recorder = EventRecorder(
            EventOptions(**{"before_s": 3, "after_s": 4, "fps": 2, **options}),
            wake=self.wake,
            paused=lambda: self.paused,
            on_event=self.events.append,
            clock=lambda: self.now_s,
        )

    def wake(self):
        self.woken += 1

    def run(self, seconds):
        for _ in range(round(10 * seconds)):
            self.now_s = round(self.now_s + 0.1, 3)
            self.recorder.offer(Frame(NOISE, f"{self.now_s:.1f}", round(1000 * self.now_s)))

    def coded(self):
        """All frames that wait, in the order of coding."""
        frames = []
        while (frame := self.recorder.next_frame()) is not None:
            frames.append(frame)
        return frames

    def marks(self):
        """Their marks, in the order of time."""
        return [frame.event for frame in sorted(self.coded(), key=lambda frame: frame.event.place)]


def test_an_event_has_the_seconds_before_and_after_it_at_its_own_rate():
    camera = Camera()
    camera.run(20)
    assert camera.coded() == []
    assert camera.woken == 0
    camera.recorder.begin("ask", "door bell")
    camera.run(20)
    frames = camera.coded()
    marks = [frame.event for frame in sorted(frames, key=lambda frame: frame.event.place)]
    assert {(mark.event, mark.label, mark.cause) for mark in marks} == {(marks[0].event, "door bell", "ask")}
    assert [mark.place for mark in marks] == list(range(len(marks)))
    assert [mark.last for mark in marks] == [False] * (len(marks) - 1) + [True]
    times_s = [mark.since_ms / 1000 for mark in marks]
    assert -3 <= times_s[0] <= -2.4
    assert 3.3 <= times_s[-1] <= 4
    steps_s = np.diff(times_s)
    assert np.all(steps_s <= 0.75)
    assert np.median(steps_s) == pytest.approx(0.5)
    for frame in frames:
        assert round(frame.time_ms / 1000 - 120, 3) == frame.event.since_ms / 1000
        assert np.abs(frame.image.astype(int) - NOISE).mean() < 8  # it was a JPEG file meanwhile
    begun, ended = camera.events
    assert isinstance(begun, EventBegun)
    assert isinstance(ended, EventEnded)
    assert (begun.label, ended.frames, camera.recorder.count) == ("door bell", len(marks), 1)


def test_the_newest_frame_is_coded_first_so_that_a_receiver_has_the_moment_soon():
    camera = Camera()
    camera.run(5)
    camera.recorder.begin("ask")
    first = camera.recorder.next_frame()
    assert -500 <= first.event.since_ms <= 0
    camera.run(1)
    assert camera.recorder.next_frame().event.since_ms >= 500


def test_events_that_overlap_are_one_also_where_only_their_pasts_do():
    camera = Camera()
    camera.run(5)
    camera.recorder.begin("ask")
    camera.run(2)
    camera.recorder.begin("ask", "again")  # until 6 s
    camera.run(6)  # at 8 s, it has ended, 2 s ago
    assert [type(event) for event in camera.events] == [EventBegun, EventEnded]
    camera.recorder.begin("ask")
    camera.run(20)
    marks = camera.marks()
    assert len({mark.event for mark in marks}) == 1
    assert [mark.place for mark in marks] == list(range(len(marks)))
    assert marks[-1].since_ms == pytest.approx(12_000, abs=650)
    assert np.all(np.diff([mark.since_ms for mark in marks]) <= 750)
    assert camera.recorder.count == 1
    camera.recorder.begin("ask")  # long after it
    camera.run(1)
    assert camera.recorder.count == 2


def test_what_goes_on_for_ever_becomes_events_of_the_longest_length_without_common_frames():
    camera = Camera(longest_s=20, most_an_hour=0)
    camera.run(5)
    for _ in range(60):
        camera.recorder.begin("ask")
        camera.run(1)
    camera.run(20)
    marks = [frame.event for frame in sorted(camera.coded(), key=lambda frame: frame.time_ms)]
    numbers = list(dict.fromkeys(mark.event for mark in marks))
    assert len(numbers) == 3
    assert [mark.event for mark in marks] == sorted((mark.event for mark in marks), key=numbers.index)
    assert max(mark.since_ms for mark in marks) <= 20_000 + 500


def test_what_is_still_seen_prolongs_an_event_and_makes_none():
    camera = Camera()
    camera.run(5)
    camera.recorder.seen("watch", "a truck", begins=False)
    assert camera.recorder.count == 0
    camera.recorder.seen("watch", "a truck", begins=True)
    for _ in range(10):
        camera.run(1)
        camera.recorder.seen("watch", "a truck", begins=False)
    camera.run(20)
    marks = camera.marks()
    assert {mark.cause for mark in marks} == {"watch"}
    assert marks[-1].since_ms == pytest.approx(14_000, abs=650)


def test_a_camera_that_stands_still_ends_an_event_without_a_frame_of_much_later():
    camera = Camera()
    camera.run(5)
    camera.recorder.begin("ask")
    camera.run(1)
    camera.now_s += 60
    camera.run(1)
    marks = camera.marks()
    assert max(mark.since_ms for mark in marks) <= 1000
    assert not any(mark.last for mark in marks)
    assert [type(event) for event in camera.events] == [EventBegun, EventEnded]
    camera.recorder.begin("ask")
    assert camera.recorder.count == 2


def test_too_many_events_in_an_hour_are_left_out():
    camera = Camera(most_an_hour=3)
    for _ in range(3):
        camera.recorder.begin("ask")
        camera.run(60)
    with pytest.raises(UsageError, match="3 in the last hour"):
        camera.recorder.begin("ask")
    camera.recorder.seen("gpio", "line 17", begins=True)  # costs a log line
    assert camera.recorder.count == 3
    camera.now_s += 3600
    camera.recorder.begin("ask")
    assert camera.recorder.count == 4


def test_a_cause_that_is_left_out_makes_no_event():
    camera = Camera(causes=("watch",))
    camera.recorder.seen("change", "", begins=True)
    assert camera.recorder.count == 0
    with pytest.raises(UsageError, match="ask makes no event"):
        camera.recorder.begin("ask")


def test_nothing_of_a_pause_is_sent_later():
    camera = Camera(before_s=10)
    camera.run(5)
    camera.paused = True
    camera.run(3)
    with pytest.raises(UsageError, match="paused"):
        camera.recorder.begin("ask")
    camera.paused = False
    camera.run(2)
    camera.recorder.begin("ask")
    marks = camera.marks()
    assert marks
    assert all(mark.since_ms >= -2000 for mark in marks)


def test_memory_is_bounded_in_bytes_and_what_does_not_fit_is_left_out():
    image = np.random.default_rng(2).integers(0, 255, (512, 512, 3), np.uint8)  # as JPEG about 0.4 MB
    camera = Camera(before_s=60, after_s=60, memory_bytes=1 << 20)
    for number in range(60):
        camera.now_s += 0.5
        camera.recorder.offer(Frame(image, str(number), number))
    camera.recorder.begin("ask")
    assert 1 <= camera.recorder.waiting <= 3
    for number in range(20):  # nothing is coded meanwhile
        camera.now_s += 0.5
        camera.recorder.offer(Frame(image, str(number), number))
    assert 1 <= camera.recorder.waiting <= 3
    marks = camera.marks()
    assert [mark.place for mark in marks] == list(range(len(marks)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"before_s": 121},
        {"after_s": 0},
        {"fps": 0},
        {"frame_bytes": 100},
        {"memory_bytes": 5},
        {"longest_s": 0},
        {"most_an_hour": -1},
        {"causes": ("door",)},
    ],
)
def test_options_out_of_their_range_are_refused(wrong):
    with pytest.raises(UsageError):
        EventOptions(**wrong)


def test_a_data_budget_that_is_used_up_lets_nothing_begin_or_go_on_but_what_was_asked_for():
    camera, allowed = Camera(), [True]
    camera.recorder._may_spend = lambda: allowed[0]
    camera.run(5)
    camera.recorder.seen("watch", "a person", begins=True)
    allowed[0] = False
    for _ in range(20):
        camera.run(1)
        camera.recorder.seen("watch", "a person", begins=True)
    assert camera.recorder.count == 1
    assert max(mark.since_ms for mark in camera.marks()) <= 4000
    with pytest.raises(UsageError, match="data budget"):
        camera.recorder.begin("gpio")
    camera.recorder.begin("ask")
    assert camera.recorder.count == 2


def test_events_that_are_not_made_for_an_hour_cost_a_line_or_two_in_the_log(caplog):
    camera = Camera(most_an_hour=1, before_s=0, after_s=1)
    for _ in range(60):
        camera.run(3)
        camera.recorder.seen("watch", "a person", begins=True)
    assert camera.recorder.count == 1
    assert 1 <= sum("no event is made" in line for line in caplog.messages) <= 2

"""The sender pipeline without threads, in simulated time."""

import pytest

from tests.support.sender_bench import Bench


class SimulatedTime:
    """A pipeline without threads, on a clock that the test moves; what is published is confirmed after `delay_s`."""

    def __init__(self, **options):
        self.now_s, self.delay_s, self.confirmations = 0.0, 0.05, []
        self.bench = Bench(start=False, clock=lambda: self.now_s, interval_s=0.1, **options)

    def run(self, seconds, step_s=0.001):
        """Let time pass, with a frame each 100 ms; returns what was published, as (time, frame, layer)."""
        published, pipeline = [], self.bench.sender
        for number in range(round(seconds / step_s)):
            self.now_s = number * step_s
            if number % round(0.1 / step_s) == 0:
                self.bench.offer(str(number))
            while self.confirmations and self.confirmations[0][0] <= self.now_s:
                self.confirmations.pop(0)[1]()
            while pipeline.encode_step():
                pass
            while pipeline.publish_step():
                pass
            while not self.bench.published.empty():
                part, confirm = self.bench.next()
                published.append((self.now_s, part.frame, part.first_layer))
                self.confirmations.append((self.now_s + self.delay_s, confirm))
        return published


def test_without_threads_it_is_stepped_in_simulated_time():
    world = SimulatedTime()
    assert not world.bench.sender.encode_step()  # nothing is there, and it does not wait
    assert not world.bench.sender.publish_step()
    world.bench.sender.connected()
    published = world.run(1.0)
    assert [frame for _, frame, layer in published if layer == 0] == list(range(10))
    assert max(abs(now_s - 0.1 * frame) for now_s, frame, _ in published) < 0.0015
    assert world.bench.sender.state().skipped == 0


def test_in_simulated_time_a_window_holds_layers_back_until_their_confirmation():
    world = SimulatedTime(window_bytes=1)
    world.bench.sender.connected()
    published = world.run(0.3)
    assert [(frame, layer) for _, frame, layer in published] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert [now_s for now_s, _, _ in published] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25], abs=0.0015)
    assert world.bench.sender.state().dropped_layers == 4

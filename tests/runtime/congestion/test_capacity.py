"""Capacity from acknowledgements, and the control law on a simulated link: all with a clock that the test holds."""

import heapq
import random

import numpy as np
import pytest

from runtime.congestion.capacity import Capacity
from runtime.congestion.control import Control
from tests.support.simulated_link import LEAST_BYTES, simulate


def steady(rate_bps, seconds):
    return np.full(int(seconds * 1000), rate_bps / 8000)


def test_one_message_alone_gives_the_rate():
    capacity = Capacity(min_rtt_s=0.1)
    assert capacity.rate_bps is None
    capacity.acked(size_bytes=1000, sent_s=5.0, now_s=6.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_messages_that_queue_behind_each_other_share_the_time():
    capacity = Capacity(min_rtt_s=0.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=1.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_time_without_traffic_does_not_count():
    capacity = Capacity(min_rtt_s=0.1, long_s=100)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=1.1)
    capacity.acked(size_bytes=1000, sent_s=50, now_s=51.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_acknowledgements_that_come_together_are_one_measurement():
    capacity = Capacity(min_rtt_s=0.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_a_lower_rate_is_believed_after_the_long_window():
    capacity = Capacity()
    for number in range(20):
        capacity.acked(size_bytes=1000, sent_s=number * 0.1, now_s=(number + 1) * 0.1)
    for number in range(20, 50):
        capacity.acked(size_bytes=500, sent_s=number * 0.1, now_s=(number + 1) * 0.1)
    assert capacity.rate_bps == pytest.approx(40_000, rel=0.05)


def test_a_higher_rate_is_believed_after_the_short_window():
    capacity = Capacity()
    for number in range(20):
        capacity.acked(size_bytes=1000, sent_s=number * 0.1, now_s=(number + 1) * 0.1)
    for number in range(4):
        capacity.acked(size_bytes=5000, sent_s=2 + number * 0.05, now_s=2 + (number + 1) * 0.05)
    assert capacity.rate_bps == pytest.approx(800_000, rel=0.1)


def test_an_outage_says_nothing_about_the_rate_after_it():
    capacity = Capacity(min_rtt_s=0.05)
    for number in range(20):
        capacity.acked(size_bytes=10_000, sent_s=number * 0.1, now_s=0.05 + (number + 1) * 0.1)
    before_bps = capacity.rate_bps
    capacity.acked(size_bytes=10_000, sent_s=2.0, now_s=7.0)
    assert capacity.rate_bps > 0.2 * before_bps  # 5 s for one message would be a fiftieth


def test_a_link_that_stays_slow_is_believed_to_be_slow():
    capacity = Capacity(min_rtt_s=0.05)
    for number in range(20):
        capacity.acked(size_bytes=10_000, sent_s=number * 0.1, now_s=0.05 + (number + 1) * 0.1)
    for number in range(12):
        capacity.acked(size_bytes=500, sent_s=2 + number, now_s=3 + number)
    assert capacity.rate_bps == pytest.approx(4000, rel=0.1)


def test_a_faster_round_trip_than_the_smallest_known_replaces_it():
    capacity = Capacity(min_rtt_s=0.5)
    capacity.acked(size_bytes=100, sent_s=0, now_s=0.2)
    assert capacity.min_rtt_s == pytest.approx(0.2)


def test_an_infinitely_fast_link_has_a_finite_rate():
    capacity = Capacity()
    capacity.acked(size_bytes=1000, sent_s=1, now_s=1)
    assert 1e6 < capacity.rate_bps < 1e9


def test_an_unsteady_link_is_told_from_a_steady_one():
    def swing(sizes):
        capacity = Capacity()
        for number in range(60):
            size_bytes = sizes[number // 4 % len(sizes)]
            capacity.acked(size_bytes=size_bytes, sent_s=number * 0.1, now_s=(number + 1) * 0.1)
        return capacity.swing

    assert swing([5000]) < 0.05
    assert swing([2000, 8000]) > 0.2


def test_an_unsteady_link_gets_a_longer_queue_than_a_steady_one():
    budgets = []
    for swing in (0.0, 0.2, 1.0):
        control = Control(interval_s=0.1)
        control.connected(0.0, 0.05)
        control.capacity.acked(size_bytes=5000, sent_s=0.0, now_s=0.15)
        control.capacity.swing = swing
        budgets.append(control.budget_bytes(1.0))
    assert budgets == [5500, 6000, 6500]  # 50 kB/s: 110, 120 and 130 ms


def test_a_clock_that_went_backwards_is_refused():
    with pytest.raises(ValueError, match="backwards"):
        Capacity().acked(size_bytes=1, sent_s=2, now_s=1)


def test_a_simulated_link_is_measured_within_ten_percent_at_a_third_of_its_use():
    rng = random.Random(1)
    rate_bps, delay_s = 64e3, 0.03
    capacity = Capacity(min_rtt_s=2 * delay_s)
    for frame in range(20):
        free_s = sent_s = float(frame)
        for _ in range(4):
            size_bytes = rng.randrange(300, 1000)
            free_s += size_bytes * 8 / rate_bps
            capacity.acked(size_bytes=size_bytes, sent_s=sent_s, now_s=free_s + 2 * delay_s)
    assert capacity.rate_bps == pytest.approx(rate_bps, rel=0.1)


def test_the_first_budget_is_small_and_the_next_waits_for_an_answer():
    control = Control(interval_s=1)
    control.connected(0.0, 0.05)
    assert control.budget_bytes(0.0) == 1500
    control.sent(0.0, size_bytes=1500, base=True)
    assert control.budget_bytes(0.1) is None


def test_a_fast_link_does_not_make_a_frame_of_any_size():
    control = Control(interval_s=1)
    control.capacity.acked(size_bytes=10**6, sent_s=0, now_s=0.01)
    assert control.budget_bytes(1.0) == 30_000


@pytest.mark.parametrize("rate_bps", [64e3, 300e3, 1e6, 2e6])
def test_a_steady_link_is_used_and_its_queue_stays_short(rate_bps):
    result = simulate(Control(interval_s=0.1, min_bytes=LEAST_BYTES), steady(rate_bps, 20))
    assert result.share > 0.78  # of IP bytes: small layers have large heads
    assert result.delay_s(95) < 0.25
    assert result.most_queued_bytes < rate_bps / 8 * 0.3 + 3000


def test_in_a_steady_link_frames_come_whole_and_soon():
    result = simulate(Control(interval_s=0.1, min_bytes=LEAST_BYTES), steady(1e6, 20))
    assert result.dropped_layers < 0.05 * result.frames
    assert result.skipped == 0
    assert result.delay_s(95) < 0.1
    assert result.share > 0.9


def test_a_rate_that_falls_to_a_fifth_delays_few_frames():
    trace = np.concatenate([steady(1.5e6, 5), steady(0.3e6, 10)])
    result = simulate(Control(interval_s=0.1, min_bytes=LEAST_BYTES), trace)
    late = [delay for delay in result.base_delays_s if delay > 0.3]
    assert len(late) <= 3
    assert result.share > 0.85


def test_a_rate_that_rises_fivefold_is_used_within_a_second():
    trace = np.concatenate([steady(0.3e6, 5), steady(1.5e6, 10)])
    result = simulate(Control(interval_s=0.1, min_bytes=LEAST_BYTES), trace)
    assert result.share > 0.9


def test_in_an_outage_nothing_is_added_and_the_first_frame_after_it_is_new():
    trace = np.concatenate([steady(1e6, 5), np.zeros(4000), steady(1e6, 5)])
    result = simulate(Control(interval_s=0.1, min_bytes=LEAST_BYTES), trace)
    during = [at_s for at_s in result.sent_s if 5.2 < at_s < 8.9]
    assert not during
    after = [delay for at_s, delay in zip(result.captured_s, result.base_delays_s, strict=True) if at_s > 8.7]
    assert after[0] < 0.2
    old = [delay for delay in result.base_delays_s if delay > 1]
    assert len(old) <= 2  # what was on its way when the link went
    assert result.share > 0.85  # and its rate is still known


def test_where_the_floor_does_not_fit_frames_are_skipped_and_not_made_worse():
    floor_bytes = 4000
    result = simulate(Control(interval_s=0.1, min_bytes=floor_bytes), steady(100e3, 20))
    assert min(result.packed_bytes[1:]) >= floor_bytes
    assert result.skipped > 0.2 * result.frames
    assert result.delay_s(95) < 0.7  # 0.32 s of it are the frame itself


def test_one_frame_a_second_that_may_fill_a_thin_link():
    result = simulate(Control(interval_s=1.0, min_bytes=LEAST_BYTES, fill_share=1.0), steady(64e3, 60), fps=1)
    assert result.share > 0.75
    assert result.skipped <= 2
    assert result.delay_s(95) < 0.7


@pytest.mark.parametrize(
    ("interval_s", "rate_bps", "budget_bytes"),
    [
        (0.1, 400e3, 5500),  # 50 kB/s: all of the interval, and 10 ms
        (0.2, 400e3, 10_500),  # all of it
        (0.4, 400e3, 1500),  # less than drains in 0.2 s
        (0.5, 400e3, 1500),
        (0.5, 1.6e6, 2000),  # what drains in 10 ms
        (1.0, 24e3, 1230),  # 0.4 of it, and 10 ms
        (1.0, 96e3, 1720),  # a third of 0.4 of it, and 10 ms
        (2.0, 96e3, 9720),  # 0.4 of it, and 10 ms: younger pictures would gain little
        (1.0, 8e3, 600),  # of 1010
        (1.0, 4e3, 505),  # less than 600 in all of it
    ],
)
def test_with_few_frames_a_second_a_frame_is_the_smaller_the_longer_it_takes(interval_s, rate_bps, budget_bytes):
    control = Control(interval_s=interval_s, refers=True)
    control.connected(0.0, 0.05)
    control.capacity.acked(size_bytes=int(rate_bps / 8), sent_s=0.0, now_s=1.05)
    control.capacity.swing = 0.0
    assert control.budget_bytes(1.1) == pytest.approx(budget_bytes, abs=1)


@pytest.mark.parametrize(("interval_s", "budget_bytes"), [(0.4, 10_500), (1.0, 20_500)])
def test_a_frame_that_none_refers_to_has_its_share_of_the_interval(interval_s, budget_bytes):
    control = Control(interval_s=interval_s)
    control.connected(0.0, 0.05)
    control.capacity.acked(size_bytes=50_000, sent_s=0.0, now_s=1.05)
    control.capacity.swing = 0.0
    assert control.budget_bytes(1.1) == pytest.approx(budget_bytes, abs=1)


def test_a_lost_message_is_forgotten():
    control = Control(interval_s=0.1)
    control.connected(0.0, 0.05)
    control.sent(0.0, size_bytes=1000, base=True)
    control.sent(0.0, size_bytes=500)
    control.lost(0.1, size_bytes=1000)
    assert control.state()["in_flight_bytes"] == 500
    control.lost(0.1, size_bytes=777)
    assert control.state()["in_flight_bytes"] == 500


def test_a_new_connection_has_nothing_in_flight_and_keeps_the_rate():
    control = Control(interval_s=0.1)
    control.connected(0.0, 0.05)
    control.sent(0.0, size_bytes=10_000, base=True)
    control.acked(0.15, size_bytes=10_000, sent_s=0.0)
    control.sent(0.2, size_bytes=10_000, base=True)
    before = control.state()
    control.connected(5.0, 0.2)
    after = control.state()
    assert (after["in_flight_bytes"], after["rtt_s"]) == (0, 0.2)
    assert after["capacity_bps"] == before["capacity_bps"]
    assert control.budget_bytes(5.0) > 5000


def test_the_kernels_account_opens_the_window_before_a_late_confirmation():
    queued = [50_000]
    control = Control(interval_s=0.1, unacked_bytes=lambda: queued[0])
    control.connected(0.0, 0.05)
    control.sent(0.0, size_bytes=10_000, base=True)
    control.acked(0.15, size_bytes=10_000, sent_s=0.0)
    control.sent(0.16, size_bytes=10_000, base=True)
    control.sent(0.16, size_bytes=10_000)
    assert control.budget_bytes(0.28) is None
    queued[0] = 0
    assert control.budget_bytes(0.28) is not None


def run_on_a_path_that_becomes_longer(probed, seconds=60):
    """Bytes a second in the last 20 s on a FIFO of 200 kbit/s, whose round trip goes from 30 to 600 ms after 20 s."""
    control, free_s, acks, sent_bytes = Control(interval_s=0.5, fill_share=1.0), 0.0, [], 0
    control.connected(0.0, 0.03)
    now_s = next_s = 0.0
    control.unacked_bytes = lambda: max(0, int((free_s - now_s) * 2e5 / 8))
    probe_s, waiting, offered = None, [], False
    for ms in range(seconds * 1000):
        now_s = ms / 1000
        rtt_s = 0.03 if now_s < 20 else 0.6
        while acks and acks[0][0] <= now_s:
            _, size, at_s = heapq.heappop(acks)
            control.acked(now_s, size_bytes=size, sent_s=at_s)
        if probe_s is not None and now_s >= probe_s + rtt_s:
            control.rtt_measured(now_s, now_s - probe_s)
            probe_s = None
        if probed and probe_s is None and control.wants_rtt(now_s):
            probe_s = now_s
        if now_s >= next_s:
            offered, next_s = True, next_s + 0.5
        if offered and not waiting and (budget := control.budget_bytes(now_s)) is not None:
            offered, waiting = False, [(budget // 4, True)] + [(budget // 4, False)] * 3
        while waiting and control.room(now_s, size_bytes=waiting[0][0], base=waiting[0][1]):
            size, base = waiting.pop(0)
            control.sent(now_s, size_bytes=size, base=base)
            free_s = max(free_s, now_s) + size * 8 / 2e5
            heapq.heappush(acks, (free_s + rtt_s, size, now_s))
            sent_bytes += size if now_s >= seconds - 20 else 0
        if offered and waiting:
            waiting = []  # the newest wins
    return sent_bytes / 20


def test_a_round_trip_that_has_grown_is_measured_and_the_rate_comes_back():
    assert run_on_a_path_that_becomes_longer(probed=False) < 15_000  # of 25,000: it takes each message for overdue
    assert run_on_a_path_that_becomes_longer(probed=True) > 20_000


def test_on_a_quiet_or_idle_link_no_round_trip_is_measured():
    control = Control(interval_s=1.0)
    control.connected(0.0, 0.03)
    for second in range(1, 60):
        control.sent(float(second), size_bytes=500)
        control.acked(second + 0.05, size_bytes=500, sent_s=float(second))
        assert not control.wants_rtt(second + 0.5)
    assert not control.wants_rtt(500.0)


def test_a_frame_that_was_not_due_leaves_the_time_of_the_next_one():
    control = Control(interval_s=0.5)
    control.connected(0.0, 0.05)
    for number in range(8):  # 20 kbit/s
        control.sent(number / 2, size_bytes=500, base=True)
        control.acked(number / 2 + 0.25, size_bytes=500, sent_s=number / 2)
    control.sent(4.0, size_bytes=200, base=True)
    control.sent(4.05, size_bytes=200, base=True)  # somebody has asked for it
    assert control.room(4.05, size_bytes=600, base=False)
    assert not control.room(4.05, size_bytes=1500, base=False)  # at 4.5 it would be in the way

"""Rate from acknowledged bytes, budget from rate; time is always an argument."""

import random

import pytest

from runtime.capacity import Capacity
from runtime.control import Control


def test_nothing_is_known_before_the_first_acknowledgement():
    assert Capacity().rate_bps is None


def test_one_message_on_an_idle_link():
    capacity = Capacity(min_rtt_s=0.1)
    capacity.acked(size_bytes=1000, sent_s=5.0, now_s=6.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_messages_that_queue_behind_each_other_share_the_time():
    capacity = Capacity(min_rtt_s=0.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=1.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_time_without_traffic_does_not_count():
    capacity = Capacity(min_rtt_s=0.1, window_s=100)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=1.1)
    capacity.acked(size_bytes=1000, sent_s=50, now_s=51.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_acknowledgements_that_come_together_are_one_measurement():
    capacity = Capacity(min_rtt_s=0.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    capacity.acked(size_bytes=1000, sent_s=0, now_s=2.1)
    assert capacity.rate_bps == pytest.approx(8000)


def test_a_new_rate_is_believed_after_the_window():
    capacity = Capacity(window_s=4)
    for second in range(10):
        capacity.acked(size_bytes=1000, sent_s=second, now_s=second + 1)
    for second in range(10, 16):
        capacity.acked(size_bytes=250, sent_s=second, now_s=second + 1)
    assert capacity.rate_bps == pytest.approx(2000)


def test_a_faster_round_trip_than_the_smallest_known_replaces_it():
    capacity = Capacity(min_rtt_s=0.5)
    capacity.acked(size_bytes=100, sent_s=0, now_s=0.2)
    assert capacity.min_rtt_s == pytest.approx(0.2)


def test_an_infinitely_fast_link_has_a_finite_rate():
    capacity = Capacity()
    capacity.acked(size_bytes=1000, sent_s=1, now_s=1)
    assert capacity.rate_bps > 1e6


def test_a_clock_that_went_backwards_is_refused():
    with pytest.raises(ValueError, match="backwards"):
        Capacity().acked(size_bytes=1, sent_s=2, now_s=1)


def test_a_simulated_link_is_measured_within_five_percent_at_a_third_of_its_use():
    rng = random.Random(1)
    rate_bps, delay_s = 64e3, 0.03
    capacity = Capacity(min_rtt_s=2 * delay_s)
    for frame in range(20):
        free_s = sent_s = float(frame)
        for _ in range(4):
            size_bytes = rng.randrange(300, 1000)
            free_s += size_bytes * 8 / rate_bps
            capacity.acked(size_bytes=size_bytes, sent_s=sent_s, now_s=free_s + 2 * delay_s)
    assert capacity.rate_bps == pytest.approx(rate_bps, rel=0.05)


def test_the_first_budget_is_small():
    assert Control(interval_s=1).budget_bytes(rate_bps=None) == 1500


def test_a_budget_drains_within_the_interval():
    budget_bytes = Control(interval_s=0.5).budget_bytes(rate_bps=64e3)
    assert 0.8 * 4000 < budget_bytes < 4000


def test_what_is_still_under_way_is_taken_off_the_budget():
    control = Control(interval_s=1)
    free = control.budget_bytes(rate_bps=64e3)
    assert control.budget_bytes(rate_bps=64e3, backlog_bytes=1000) == free - 1000
    assert control.budget_bytes(rate_bps=64e3, backlog_bytes=1000, ready_in_s=0.1) == free - 200
    assert control.budget_bytes(rate_bps=64e3, backlog_bytes=1000, ready_in_s=1) == free
    assert control.budget_bytes(rate_bps=64e3, backlog_bytes=10**6) == 0


def test_a_fast_link_does_not_make_a_packet_of_any_size():
    assert Control(interval_s=1).budget_bytes(rate_bps=1e9) <= 30_000


def test_the_window_holds_a_fraction_of_a_second():
    control = Control(interval_s=1)
    assert control.window_bytes(rate_bps=None) == control.window_bytes(rate_bps=1000) == 2000
    assert 0.1 < control.window_bytes(rate_bps=1e6) * 8 / 1e6 < 1

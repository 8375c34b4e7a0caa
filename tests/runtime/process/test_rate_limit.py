"""A rate-limited log writes few lines, however many warnings come, and hides no kind of them behind another."""

import logging

from runtime.process.rate_limit import RateLimitedLog


def test_a_flood_of_warnings_is_one_line(caplog):
    limited_log = RateLimitedLog(logging.getLogger("flood"), every_s=1000)
    for number in range(10_000):
        limited_log.warn("bad message %d", number)
    assert caplog.messages == ["bad message 0"]


def test_the_next_line_says_how_many_were_left_out(caplog):
    now_s = [0.0]
    limited_log = RateLimitedLog(logging.getLogger("flood"), every_s=10, clock=lambda: now_s[0])
    for number in range(3):
        limited_log.warn("bad message %d", number)
    now_s[0] = 10.0
    limited_log.warn("bad message %d", 3)
    assert caplog.messages == ["bad message 0", "bad message 3 (and 2 before that were not logged)"]


def test_a_flood_of_one_kind_hides_no_other(caplog):
    now_s = [0.0]
    limited_log = RateLimitedLog(logging.getLogger("flood"), every_s=10, clock=lambda: now_s[0])
    for number in range(3):
        limited_log.warn("bad message %d", number)
    limited_log.warn("the disk is %s", "full")
    now_s[0] = 10.0
    limited_log.warn("the disk is %s", "full")
    limited_log.warn("bad message %d", 3)
    assert caplog.messages == [
        "bad message 0",
        "the disk is full",
        "the disk is full",
        "bad message 3 (and 2 before that were not logged)",
    ]

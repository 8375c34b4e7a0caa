"""A rate-limited log writes few lines, however many warnings come."""

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
    limited_log.warn("bad message 3")
    assert caplog.messages == ["bad message 0", "bad message 3 (and 2 warnings before that were not logged)"]

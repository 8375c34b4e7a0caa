"""Log lines: what strangers can put into them."""

import logging

from runtime.process.log_lines import PlainFormatter

FORMATTER = PlainFormatter("%(levelname)s %(name)s: %(message)s")


def line_of(message, *details, **about):
    return FORMATTER.format(logging.LogRecord("runtime", logging.WARNING, "x.py", 1, message, details, None, **about))


def test_control_characters_do_not_reach_a_log():
    hostile = "\x1b[2J\x07\r\nINFO runtime: all is well\x85\u2028\u202e\x7f"
    line = line_of("the broker says %s", hostile)
    assert line.isprintable()
    assert line.startswith("WARNING runtime: the broker says \\x1b[2J\\x07\\r\\nINFO")


def test_what_is_printable_stays_as_it_is():
    assert line_of("stream %s", "küche/größe/日本") == "WARNING runtime: stream küche/größe/日本"

"""GPIO lines: how they are named, what an edge does. The line is a recorded one: this was not run on a board."""

import queue
import threading

import pytest

from edgesem.errors import EnvironmentMissing, UsageError
from runtime.capture.gpio_line import GpioLine, GpioPin, request_line

DEADLINE_S = 60


class RecordedLine:
    """Gives the bursts of edges that it is told, as a line of gpiod does, and fails as one that is unplugged."""

    def __init__(self):
        self.bursts, self.released = queue.Queue(), False
        self._burst = []

    def wait_edge_events(self, timeout):
        try:
            self._burst = self.bursts.get(timeout=timeout)
        except queue.Empty:
            return False
        if isinstance(self._burst, OSError):
            raise self._burst
        return True

    def read_edge_events(self, max_events):
        burst, self._burst = self._burst[:max_events], []
        return burst

    def release(self):
        self.released = True


def test_each_burst_of_edges_is_one_call_and_a_defect_of_the_caller_ends_nothing():
    line, calls = RecordedLine(), queue.Queue()

    def edge():
        calls.put(threading.current_thread().name)
        raise RuntimeError("of the caller")

    with GpioLine(GpioPin.parse("gpiochip0:17"), edge, request=lambda pin: line):
        for burst in (["rising"], ["rising"] * 5, []):
            line.bursts.put(burst)
        line.bursts.put(["rising"])
        for _ in range(3):
            assert calls.get(timeout=DEADLINE_S) == "sender.gpio"
        assert not line.released
    assert calls.empty()
    assert line.released


def test_a_line_that_is_gone_costs_a_line_in_the_log(caplog):
    line = RecordedLine()
    gone = GpioLine(GpioPin.parse("gpiochip9:door"), lambda: None, request=lambda pin: line)
    with gone:
        line.bursts.put(OSError(19, "No such device"))
        gone._thread.join(DEADLINE_S)
    assert "/dev/gpiochip9, line door cannot be read any more: No such device" in caplog.text


@pytest.mark.parametrize(
    ("text", "chip", "line"),
    [
        ("gpiochip0:17", "/dev/gpiochip0", 17),
        ("/dev/gpiochip4:GPIO17", "/dev/gpiochip4", "GPIO17"),
        ("/dev/by-path/a:b:3", "/dev/by-path/a:b", 3),
    ],
)
def test_lines_are_named_by_chip_and_number_or_name(text, chip, line):
    pin = GpioPin.parse(text)
    assert (pin.chip, pin.line) == (chip, line)


@pytest.mark.parametrize("text", ["", "17", "gpiochip0", ":17", "gpiochip0:", "gpiochip0:a\nb"])
def test_other_text_is_no_line(text):
    with pytest.raises(UsageError, match="CHIP:LINE"):
        GpioPin.parse(text)


def test_the_real_library_says_that_there_is_no_such_chip():
    pytest.importorskip("gpiod")
    with pytest.raises(EnvironmentMissing, match=r"line 17 of /dev/gpiochip77: No such file.*gpioinfo"):
        request_line(GpioPin.parse("gpiochip77:17"))


@pytest.mark.parametrize(
    ("edge", "bias"), [("rising", "as-is"), ("falling", "pull-up"), ("both", "pull-down"), ("both", "disabled")]
)
def test_the_real_library_knows_all_settings(edge, bias):
    pytest.importorskip("gpiod")
    with pytest.raises(EnvironmentMissing):
        request_line(GpioPin.parse("gpiochip77:17", edge=edge, bias=bias))

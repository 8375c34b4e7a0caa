"""GPIO line: edges on an input pin of the board, such as a door contact or a motion detector, by the library gpiod.

gpiod is the Python binding of libgpiod 2, the kernel's own interface (character device, Linux 5.10 and later).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol

from edgesem.errors import EnvironmentMissing, UsageError, require

log = logging.getLogger(__name__)

EDGES = ("rising", "falling", "both")
BIASES = ("as-is", "pull-up", "pull-down", "disabled")
_LOOK_S = 0.5
_MOST_EVENTS = 64


@dataclass(frozen=True)
class GpioPin:
    """Which line, and what counts as an edge. UsageError for what is no line."""

    chip: str
    """Device file of its controller."""
    line: int | str
    """Number of the line, or its name in the device tree."""
    edge: str = EDGES[0]
    bias: str = BIASES[0]
    debounce_s: float = 0.05
    """A level that holds for less is no edge."""

    @classmethod
    def parse(cls, text: str, *, edge: str = EDGES[0], bias: str = BIASES[0], debounce_s: float = 0.05) -> GpioPin:
        """The line `CHIP:LINE`, such as gpiochip0:17 or /dev/gpiochip4:GPIO17. UsageError for anything else."""
        chip, _, line = text.rpartition(":")
        if not chip or not line or not line.isprintable():
            raise UsageError(f"{text!r} is no GPIO line: write CHIP:LINE, such as gpiochip0:17")
        path = chip if chip.startswith("/") else f"/dev/{chip}"
        return cls(path, int(line) if line.isascii() and line.isdigit() else line, edge, bias, debounce_s)


class LineRequest(Protocol):
    """What is needed of a requested line; `gpiod.LineRequest` is one."""

    def wait_edge_events(self, timeout: float) -> bool:
        """Wait so many seconds for edges; whether there are some."""

    def read_edge_events(self, max_events: int) -> list[Any]:
        """Take out the edges that there are."""

    def release(self) -> None:
        """Give the line back."""


class GpioLine:
    """Watches a pin on a thread of its own while entered, and calls `on_edge` once for the edges of a moment.

    Entering raises EnvironmentMissing, or MissingDependency, if the line cannot be had. `request` opens the line.
    """

    def __init__(
        self,
        pin: GpioPin,
        on_edge: Callable[[], None],
        *,
        request: Callable[[GpioPin], LineRequest] | None = None,
    ) -> None:
        self._pin, self._on_edge, self._request = pin, on_edge, request or request_line
        self._stop = threading.Event()
        self._line: LineRequest
        self._thread = threading.Thread(target=self._watch, name="sender.gpio", daemon=True)

    def __enter__(self) -> GpioLine:
        self._line = self._request(self._pin)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._line.release()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._line.wait_edge_events(_LOOK_S) or not self._line.read_edge_events(_MOST_EVENTS):
                    continue
            except OSError as error:  # the controller is gone: an expander on USB that was unplugged
                log.error("%s, line %s cannot be read any more: %s", self._pin.chip, self._pin.line, error.strerror)
                return
            try:
                self._on_edge()
            except Exception:  # a caller's: the line is watched on
                log.exception("an edge of %s, line %s", self._pin.chip, self._pin.line)


def request_line(pin: GpioPin) -> LineRequest:
    """The line as an input that reports edges. EnvironmentMissing if it is not there, or in use."""
    gpiod: Any = require("gpiod", "gpio")
    line = gpiod.line
    settings = gpiod.LineSettings(
        direction=line.Direction.INPUT,
        edge_detection=getattr(line.Edge, pin.edge.upper()),
        bias=getattr(line.Bias, pin.bias.replace("-", "_").upper()),
        debounce_period=timedelta(seconds=pin.debounce_s),
    )
    try:
        return gpiod.request_lines(pin.chip, consumer="edgesem", config={pin.line: settings})  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentMissing(
            f"cannot watch line {pin.line} of {pin.chip}: {reason}; `gpioinfo` lists the lines, "
            "and the user must be in the group gpio"
        ) from error

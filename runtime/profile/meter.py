"""Power meters: their protocol, and the choice of one, which must first give a plausible reading."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from edgesem.errors import EnvironmentMissing, UsageError

log = logging.getLogger(__name__)

# Each pair spans less than a factor of 1000: a milliwatt taken for a watt cannot hide between its ends.
POWER_W = (0.25, 240.0)
PACKAGE_W = (0.9, 890.0)
VOLT_V = (0.4, 75.0)
_PROOF_S = 0.25


class MeterFault(Exception):
    """A sensor gave no number, or an implausible one. The text says which and why."""


class Meter(Protocol):
    """Power sensor that gives watts, or joules on a running counter."""

    name: str
    """What it is and where, such as `ina3221-hwmon@1-0040`."""
    scope: str
    """What its reading covers: `input` (all that the board draws), `module`, `rails`, `package` or `external`."""
    rails: tuple[str, ...]
    """The supplies that are added up."""
    counts: bool
    """Whether `read` gives joules on a running counter; otherwise it gives watts."""
    period_s: float
    """Shortest time between two readings that differ."""
    limits_w: tuple[float, float]
    """Range of plausible readings."""

    def read(self) -> float:
        """Watts, or joules on the counter. Raises MeterFault."""


@dataclass
class Choice:
    """The chosen meter, if any, and the result for each candidate that was tried."""

    meter: Meter | None = None
    tried: list[dict[str, str]] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why there is no meter."""
        if not self.tried:
            return "no power sensor found on this board"
        return "; ".join(f"{entry['meter']}: {entry['said']}" for entry in self.tried)


def prove(
    meter: Meter, clock: Callable[[], float] = time.monotonic, wait: Callable[[float], None] = time.sleep
) -> float:
    """The watts that a meter reads now. Raises MeterFault if that is no number or not plausible."""
    if meter.counts:
        start_s, first = clock(), meter.read()
        wait(_PROOF_S)
        power_w = (meter.read() - first) / (clock() - start_s)
    else:
        power_w = meter.read()
    low_w, high_w = meter.limits_w
    if not low_w <= power_w <= high_w:
        raise MeterFault(f"reads {power_w:g} W, which is not between {low_w:g} and {high_w:g}: wrong unit or no sensor")
    return power_w


def choose(
    candidates: Iterable[Meter],
    wanted: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Choice:
    """The first candidate that proves a reading, among those whose name starts with `wanted`.

    Raises UsageError when no candidate has that name, and EnvironmentMissing when the wanted one gives no reading.
    """
    choice, seen = Choice(), []
    for meter in candidates:
        seen.append(meter.name)
        if wanted is not None and not meter.name.startswith(wanted):
            continue
        try:
            power_w = prove(meter, clock, wait)
        except MeterFault as fault:
            choice.tried.append({"meter": meter.name, "said": str(fault)})
            log.warning("power meter %s is not used: %s", meter.name, fault)
            continue
        choice.tried.append({"meter": meter.name, "said": f"chosen, {power_w:.3f} W"})
        choice.meter = meter
        return choice
    if wanted is not None and not choice.tried:
        found = ", ".join(seen) or "none"
        raise UsageError(f"--meter {wanted}: there is no such meter here (found: {found}); csv:FILE reads a file")
    if wanted is not None:
        raise EnvironmentMissing(f"--meter {wanted}: {choice.reason}")
    return choice

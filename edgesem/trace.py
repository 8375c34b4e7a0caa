"""Link traces: capacity over time, from Mahimahi files, `time_s Mbit/s` files (norway), or a constant rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, UsageError

OPPORTUNITY_BYTES = 1500
"""What one line of a Mahimahi trace lets through (Netravali et al., USENIX ATC 2015)."""
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MAX_MS = 2 * 3600 * 1000
_MAX_RATE_BPS = 10e9
_CONSTANT_MS = 1000
_UNITS_BPS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_MIN_RATE_BPS, _MAX_NAMED_RATE_BPS = 2e3, 1e9
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:bit(?:/s)?|bps)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Trace:
    """Capacity of a link in IP bytes for each millisecond; it repeats when it is over."""

    name: str
    bytes_per_ms: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.bytes_per_ms) or not self.bytes_per_ms.sum() > 0:
            raise InputError(f"trace {self.name}: lets nothing through at all; choose another")
        cumulated = np.concatenate([[0.0], np.cumsum(self.bytes_per_ms)])
        object.__setattr__(self, "_cumulated", cumulated)

    def scaled(self, factor: float) -> Trace:
        """The same with all its rates times a factor above 0."""
        return self if factor == 1 else Trace(self.name, self.bytes_per_ms * factor)

    @property
    def duration_s(self) -> float:
        """How long it is until it repeats."""
        return len(self.bytes_per_ms) / 1000

    @property
    def mean_bps(self) -> float:
        """Bits per second over the whole trace."""
        return float(self.bytes_per_ms.mean()) * 8000

    def total_bytes(self, at_s: float) -> float:
        """What it let through from its start until `at_s`, repeats included."""
        cumulated: NDArray[np.float64] = self._cumulated  # type: ignore[attr-defined]
        rounds, rest_ms = divmod(at_s * 1000, len(self.bytes_per_ms))
        whole_ms = int(rest_ms)
        part = (rest_ms - whole_ms) * self.bytes_per_ms[whole_ms] if whole_ms < len(self.bytes_per_ms) else 0.0
        return float(rounds * cumulated[-1] + cumulated[whole_ms] + part)

    def between_bytes(self, from_s: float, to_s: float) -> float:
        """What it lets through from `from_s` to `to_s`."""
        return self.total_bytes(to_s) - self.total_bytes(from_s)


def parse_rate_bps(text: str) -> float:
    """The rate in bits per second that a text such as `64kbit` or `1.5mbit` names; UsageError for any other text."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--link {text}: write a number and a unit, such as 20kbit, 64kbit or 1mbit")
    rate_bps = float(found[1]) * _UNITS_BPS[found[2].lower()]
    if not _MIN_RATE_BPS <= rate_bps <= _MAX_NAMED_RATE_BPS:
        raise UsageError(f"--link {text}: must lie between 2kbit and 1gbit")
    return rate_bps


def load_trace(source: str) -> Trace:
    """The trace of a file, or of a constant rate such as `64kbit`; InputError or UsageError for anything else."""
    path = Path(source)
    if not path.is_file():
        try:
            rate_bps = parse_rate_bps(source)
        except UsageError:
            raise UsageError(f"--trace {source}: neither a file nor a rate such as 64kbit or 2mbit") from None
        return Trace(source, np.full(_CONSTANT_MS, rate_bps / 8000))
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InputError(f"trace {path}: larger than {_MAX_FILE_BYTES >> 20} MB; cut it")
    return parse_trace(path.name, path.read_bytes())


def parse_trace(name: str, data: bytes) -> Trace:
    """The trace that stands in a file's bytes: one integer a line is Mahimahi, two numbers are seconds and Mbit/s.

    Raises InputError for anything else, whatever the bytes are; a trace may last two hours at most.
    """
    if len(data) > _MAX_FILE_BYTES:
        raise InputError(f"trace {name}: larger than {_MAX_FILE_BYTES >> 20} MB; cut it")
    try:
        rows = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputError(f"trace {name}: not a text file of numbers") from None
    if not rows:
        raise InputError(f"trace {name}: empty")
    columns = len(rows[0])
    if columns not in (1, 2):
        raise InputError(f"trace {name}: line 1 has {columns} columns; needs milliseconds, or seconds and Mbit/s")
    numbers: list[list[float]] = []
    for number, row in enumerate(rows, 1):
        try:
            values = [float(cell) for cell in row]
        except ValueError:
            values = []
        if len(values) != columns or not all(math.isfinite(value) and value >= 0 for value in values):
            raise InputError(
                f"trace {name}: row {number} is {' '.join(row)[:60]!r}, must be {columns} numbers from 0 on"
            )
        numbers.append(values)
    table = np.asarray(numbers)
    times_ms = table[:, 0] if columns == 1 else table[:, 0] * 1000
    if np.any(np.diff(times_ms) < 0):
        raise InputError(f"trace {name}: times go backwards; sort the lines")
    if times_ms[-1] > _MAX_MS:
        raise InputError(f"trace {name}: ends at {times_ms[-1] / 1000:g} s, at most {_MAX_MS // 1000} s are taken")
    return _mahimahi(name, times_ms) if columns == 1 else _throughput(name, times_ms, table[:, 1])


def _mahimahi(name: str, times_ms: NDArray[np.float64]) -> Trace:
    counts = np.bincount(times_ms.astype(np.int64), minlength=1)
    return Trace(name, counts.astype(np.float64) * OPPORTUNITY_BYTES)


def _throughput(name: str, times_ms: NDArray[np.float64], mbps: NDArray[np.float64]) -> Trace:
    if mbps.max() * 1e6 > _MAX_RATE_BPS:
        raise InputError(f"trace {name}: {mbps.max():g} Mbit/s, at most {_MAX_RATE_BPS / 1e6:.0f} are taken")
    starts_ms = np.round(times_ms - times_ms[0]).astype(np.int64)
    # The last line has no end: it is taken to hold as long as the others do on average.
    last_ms = max(1, round(float(starts_ms[-1]) / max(1, len(starts_ms) - 1)))
    lengths = np.diff(np.append(starts_ms, starts_ms[-1] + last_ms))
    return Trace(name, np.repeat(mbps * 125, lengths))

"""Power meter beside the board, read from a CSV file with Unix seconds and watts: `t_s,power_w`."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from edgesem.errors import InputError
from runtime.profile.energy import Sample
from runtime.profile.meter import POWER_W

_MAX_BYTES = 256 << 20
_MAX_FIELD = 200
_UNIX_S = 1e9  # a smaller time is not Unix time, but counts from a moment that only the meter knows


class CsvMeter:
    """Readings of an external meter in a file.

    It has to hold a plausible reading when the profile starts; the rest may be written while it runs.
    """

    scope, counts = "external", False

    def __init__(self, path: Path) -> None:
        self.name, self.rails = f"csv:{path}", ("external",)
        self._path = path
        self.period_s = 0.0

    def read(self, offset_s: float) -> list[Sample]:
        """All readings, on our monotonic clock, which is `offset_s` behind Unix time. Raises InputError."""
        rows = list(self._rows())
        if not rows:
            raise InputError(f"{self._path}: no reading in it: it needs a header t_s,power_w and a line for each")
        powers = sorted(power_w for _, power_w in rows)
        middle_w = powers[len(powers) // 2]
        if not POWER_W[0] <= middle_w <= POWER_W[1]:
            raise InputError(
                f"{self._path}: {middle_w:g} W in the middle of its readings, not between {POWER_W[0]:g} and "
                f"{POWER_W[1]:g}: power_w is in watts, and a factor of 1000 off is the usual fault"
            )
        if rows[0][0] < _UNIX_S:
            raise InputError(
                f"{self._path}: t_s begins with {rows[0][0]:g}, it must be Unix seconds: add the time at which the "
                "meter started"
            )
        times = [at_s for at_s, _ in rows]
        steps = sorted(later - earlier for earlier, later in pairwise(times))
        if steps and steps[0] <= 0:
            raise InputError(f"{self._path}: t_s must rise from line to line")
        self.period_s = steps[len(steps) // 2] if steps else 1.0
        return [Sample(at_s - offset_s, at_s - offset_s, power_w) for at_s, power_w in rows]

    def _rows(self) -> Iterator[tuple[float, float]]:
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                raise InputError(f"{self._path} has more than {_MAX_BYTES >> 20} MB: cut it to the time of the profile")
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                if not {"t_s", "power_w"} <= set(reader.fieldnames or ()):
                    raise InputError(f"{self._path}: the first line must name the columns t_s and power_w")
                for line in reader:
                    yield self._number(line["t_s"], reader.line_num), self._number(line["power_w"], reader.line_num)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self._path}: cannot be read as CSV ({error})") from error

    def _number(self, field: str | None, line: int) -> float:
        try:
            value = float((field or "")[:_MAX_FIELD])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{self._path}, line {line}: {field!r:.80} is no number")
        return value

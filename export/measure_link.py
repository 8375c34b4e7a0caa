"""What a link bears, second by second: a rate, or a recorded trace in either of two common forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, UsageError

_UNITS = {"": 1.0, "bit": 1.0, "k": 1e3, "kbit": 1e3, "m": 1e6, "mbit": 1e6, "g": 1e9, "gbit": 1e9}
_RATE = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*?)(?:/s|ps)?\s*", re.IGNORECASE)
_MOST_BYTES = 64 << 20
_MOST_SECONDS = 1_000_000
_DELIVERY_BITS = 8 * 1500  # a line of Mahimahi's form is the millisecond of one such packet


@dataclass(frozen=True)
class Link:
    """A link's capacity, one value a second; of a rate, a single value."""

    name: str
    rates_bps: NDArray[np.float64]

    @property
    def mean_bps(self) -> float:
        """Over its whole length."""
        return float(self.rates_bps.mean())


@dataclass(frozen=True)
class Useful:
    """Semantic capacity of a link with one codec: information kept, a second."""

    adaptive_bps: float
    """Each second at the size that is best for that second's rate."""
    fixed_bps: float
    """At the one size that is best over all."""
    best: int
    """Which size that is."""
    frames_per_s: float
    """Frames that arrive at that size, on average."""


def open_link(text: str) -> Link:
    """The link of a rate (`64kbit`, `1.5mbit`, `9600`) or of a trace file. Raises UsageError or InputError."""
    match = _RATE.fullmatch(text)
    if match and match[2].lower() in _UNITS:
        rate_bps = float(match[1]) * _UNITS[match[2].lower()]
        if rate_bps <= 0:
            raise UsageError(f"--link {text}: a rate must be above 0")
        return Link(text.strip(), np.array([rate_bps]))
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--link {text}: neither a rate such as 64kbit or 1.5mbit, nor a file")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES} bytes: name a trace of some minutes")
    return Link(path.name, parse_trace(path.name, path.read_bytes()))


def parse_trace(name: str, data: bytes) -> NDArray[np.float64]:
    """Bits that each second bears. One number a line: Mahimahi's milliseconds; two: seconds and Mbit/s."""
    try:
        rows = [[float(word) for word in line.split()] for line in data.decode("ascii").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{name}: not a trace of a link: {error}") from error
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not widths <= {1, 2} or not np.isfinite(np.array(rows)).all():
        raise InputError(f"{name}: a trace has one number a line (milliseconds) or two (seconds, Mbit/s)")
    values = np.array(rows)
    times = values[:, 0] / (1000 if widths == {1} else 1)
    if (np.diff(times) < 0).any() or times[0] < 0 or not 0 < times[-1] <= _MOST_SECONDS:
        raise InputError(f"{name}: times must rise from 0 to at most {_MOST_SECONDS} s")
    if widths == {1}:
        seconds = int(np.ceil(times[-1]))
        packets = np.bincount(np.minimum(times.astype(int), seconds - 1), minlength=seconds)
        return np.asarray(packets * _DELIVERY_BITS, np.float64)
    if values[:, 1].min() < 0 or values[:, 1].max() > 1e6:
        raise InputError(f"{name}: rates must be 0 to 1000000 Mbit/s")
    at = np.arange(int(np.ceil(times[-1]))) + 0.5
    place = np.clip(np.searchsorted(times, at, side="right") - 1, 0, None)
    return np.asarray(values[place, 1] * 1e6, np.float64)


def useful(link: Link, sizes_bytes: Sequence[float], kept_bits: Sequence[float], most_fps: float) -> Useful:
    """Information that gets through a second: frames that fit, at most `most_fps`, times what each keeps."""
    sizes, kept = np.asarray(sizes_bytes, np.float64), np.asarray(kept_bits, np.float64)
    frames = np.minimum(most_fps, link.rates_bps[:, None] / (8 * sizes))
    through = frames * kept
    fixed = through.mean(axis=0)
    best = int(fixed.argmax())
    return Useful(float(through.max(axis=1).mean()), float(fixed[best]), best, float(frames[:, best].mean()))

"""Kernel: loops of the entropy coder, the networks of the context model and a sender's decisions, compiled, where that
could be done when edgesem was installed.

kernel.c, context.c and search.c are a shared library that knows nothing of Python, loaded with ctypes: one build serves
every Python. It is optional. Without it edgesem.entropy.rans and edgesem.codec compute the same in Python, NumPy and
ONNX Runtime, with the same bytes and the same errors, but more slowly; so they do where the environment variable
EDGESEM_KERNEL is `python`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgesem.entropy.library import open_library
from edgesem.entropy.search_loops import Planes, Rows, SearchLoops
from edgesem.entropy.tables import Indices, Integers, Tables
from edgesem.errors import PacketError, UsageError

VARIABLE = "EDGESEM_KERNEL"
LIBRARY = Path(__file__).with_name("libkernel.so")
_VERSION = 4  # of the functions' arguments, as in kernel.c
_WORDS_END = -1
_NETWORK = "i16[] i32[] i32[] i16[] i32[] n n n"  # rows, places, plan, weights, biases; outputs, own, way
_ROUNDING = "n n i32* i32[] i32[]"  # lowest table, first, radius, centre, what is added to a mean
_FUNCTIONS = {  # what the functions in C take: see `open_library`
    "kernel_version": "",
    "best_way": "",
    "put": "u64[] i32[] u64* u64[] u16[]",
    "get": "u64[] i64[] u64* u64* i64* i32[] u16[] i32*",
    "round": f"f32* f32[] f32* n f32* n i64[] {_ROUNDING} i32*",
    "expect": f"{_NETWORK} f32* f32*",
    "decide": f"{_NETWORK} f32* n f32* n i64* {_ROUNDING} n n n n n n f32* f32* i32*",
    "note": "i16[] i32[] f32* n n n n n n n",
    "fill": "i16[] i32[] f32* bool* n n n n n n",
    "count": "f32* n n n f32* n i32*",
    "excess": "f32* n n f32* n n f f f32* f32?",
    "off": "f32* f32* n n f32* f f32*",
    "differ": "f32* f32* f32* f32* n n f f32* f32*",
    "in_steps": "f32* n n f32* n f f32*",
    "large": "f32* f32? n n f32* n bool? f",
    "in_units": "f32* n i64[] f32* n f32* n",
    "smooth": "f32* n n f n bool*",
    "match": "f32* f32* n n n bool* n n n n f d f32* i16*",
    "patches": "u8* n n u8*",
}

States = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint16]


class Kernel(SearchLoops):
    """The compiled loops. Other threads run meanwhile; they must leave the arrays of a call alone.

    Raises OSError if `path` is no library for this machine, not whole, or of another version; ImportError if this
    Python was made without ctypes.
    """

    def __init__(self, path: Path) -> None:
        c = open_library(path, "edgesem_", _FUNCTIONS)
        super().__init__(c)
        version = c.kernel_version()
        if version != _VERSION:
            raise OSError(f"{path} has version {version}, not {_VERSION}")
        self.ways = c.best_way() + 1
        self.way = self.ways - 1  # which instruction set computes the networks, of those that this machine has

    def put(self, state: States, entries: Integers, tables: Tables, words: Words) -> int:
        """Code rows of entries, one for each state, the last first, into the end of `words`; how many words that took.

        The states are changed in place. Raises IndexError if there is no such entry, or no room for the words.
        """
        entries = np.ascontiguousarray(entries, np.int32)
        written: int = self._c.put(state, entries, tables.frequency, tables.start, words)
        if written < 0:
            raise IndexError("entropy coder: no table has such an entry, or there is no room for its words")
        return written

    def get(self, state: States, scale: Indices, tables: Tables, words: Words) -> tuple[Integers, int]:
        """The entries of rows of symbols, one for each state, given their scale indices; and how many words that took.

        The states are changed in place. Raises PacketError when the words end early, and IndexError if there is no
        such table.
        """
        scale = np.ascontiguousarray(scale, np.int64)
        entries = np.empty(scale.size, np.int32)
        taken: int = self._c.get(
            state, scale, tables.frequency, tables.start, tables.ends, tables.likeliest, words, entries
        )
        if taken == _WORDS_END:
            raise PacketError("packet: the symbols end early")
        if taken < 0:
            raise IndexError("entropy coder: a scale index names no table")
        return entries, taken

    def round(
        self,
        mean: Planes,
        scale: Planes,
        wanted: tuple[Planes, Planes, npt.NDArray[np.int64]],
        tables: Tables,
        least: int,
    ) -> Integers:
        """The entries of symbols that are coded, given what is expected of each, in 1/8 steps, which becomes what is
        decoded, and what is wanted: see `edgesem.codec.rounding.Wanted`.

        least: the lowest table that is used. Raises IndexError if there is no such table, or position.
        """
        planes, steps, places = wanted
        if mean.shape != scale.shape or mean.size != len(planes) * places.size or len(steps) != len(planes):
            raise TypeError("entropy coder: there must be a mean, a scale and a value for each symbol")
        entries = np.empty(mean.size, np.int32)
        count: int = self._c.round(
            *(mean, scale, planes, planes.shape[1], steps, steps.shape[1], places),
            *(least, tables.first, tables.radius, tables.centre, tables.eighths, entries),
        )
        if count < 0:
            raise IndexError("entropy coder: a scale index names no table, or a place no position")
        return entries[:count]

    def expect(
        self, rows: Rows, places: Integers, network: tuple[Integers, Rows, Integers], n: int, own: int
    ) -> tuple[Planes, Planes]:
        """Means and scales, float32 [n, places], that a network expects at places in rows: see context.c.

        network: its plan, weights, and biases with shifts. Raises IndexError where it would read beyond an array.
        """
        mean, scale = np.empty((2, n, places.size), np.float32)
        if places.size and self._c.expect(rows, places, *network, n, own, self.way, mean, scale):
            raise IndexError("context model: a network sees more than there is")
        return mean, scale

    def decide(
        self,
        rows: Rows,
        places: Integers,
        network: tuple[Integers, Rows, Integers],
        own: int,
        wanted: tuple[Planes, Planes, npt.NDArray[np.int64]],
        tables: Tables,
        least: int,
        where: Sequence[int],
    ) -> tuple[Planes, Integers]:
        """What is decoded of a pass, [n, places], and the entries of its symbols: `expect`, `round` and `note` in one.

        where: as of `note`; with a second number below 0 nothing is noted. Raises IndexError as they do.
        """
        planes, steps, at = wanted
        n = len(planes)
        if len(steps) != n or at.shape != places.shape:
            raise TypeError("context model: there must be steps for each channel, and a position for each place")
        mean, scale = np.empty((2, n, places.size), np.float32)
        entries, coded = np.empty(mean.size, np.int32), 0
        if places.size:
            coded = self._c.decide(
                *(rows, places, *network, n, own, self.way),
                *(planes, planes.shape[1], steps, steps.shape[1], at),
                *(least, tables.first, tables.radius, tables.centre, tables.eighths),
                *(*where, mean, scale, entries),
            )
        if coded < 0:
            raise IndexError("context model: a network sees more than there is, or there is no such table or position")
        return mean, entries[:coded]

    def note(self, rows: Rows, places: Integers, values: Planes, where: Sequence[int]) -> None:
        """Put values [n, places] into rows, as context.c says. Raises IndexError where that would be beyond them."""
        if values.shape[1:] != places.shape:
            raise TypeError("context model: there must be as many values as places")
        if self._c.note(rows, places, values, len(values), *where):
            raise IndexError("context model: values lie beyond the rows")

    def fill(
        self, rows: Rows, places: Integers, reference: Planes, copied: npt.NDArray[np.bool_], where: Sequence[int]
    ) -> None:
        """Put a reference [n, places] into rows, as context.c says. Raises IndexError where that would be beyond."""
        reference = np.ascontiguousarray(reference, np.float32)
        if reference.shape[1:] != places.shape or copied.shape != places.shape:
            raise TypeError("context model: there must be as many values as places")
        if self._c.fill(rows, places, reference, copied, len(reference), *where):
            raise IndexError("context model: values lie beyond the rows")


@dataclass(frozen=True)
class Choice:
    """What runs the loops of the entropy coder in this process, and why."""

    runtime: Literal["compiled", "python"]
    reason: str


@lru_cache(maxsize=1)
def _found() -> tuple[Kernel | None, Choice]:
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "python"):
        raise UsageError(f"{VARIABLE} may be `python` or unset, got {asked!r}")
    if asked:
        return None, Choice("python", f"{VARIABLE} asks for it")
    if not LIBRARY.exists():
        return None, Choice(
            "python", f"there is no {LIBRARY.name}: no C compiler worked where edgesem was installed or its wheel made"
        )
    try:
        return Kernel(LIBRARY), Choice("compiled", f"{LIBRARY.name} fits this machine")
    except (ImportError, OSError) as error:
        return None, Choice("python", f"the compiled kernel cannot be used here, install edgesem again: {error}")


def load() -> Kernel | None:
    """The compiled loops, None where Python must do; the same for the whole process. Safe to call from any thread.

    Raises UsageError if the environment variable has another value than `python`.
    """
    return _found()[0]


def choose() -> Choice:
    """What `load` gives, in words. Raises as it does."""
    return _found()[1]

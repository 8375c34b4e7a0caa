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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgesem.entropy.library_file import check_whole
from edgesem.entropy.search_loops import Planes, Rows, SearchLoops
from edgesem.entropy.tables import Indices, Integers, Tables
from edgesem.errors import PacketError, UsageError

VARIABLE = "EDGESEM_KERNEL"
LIBRARY = Path(__file__).with_name("libkernel.so")
_VERSION = 4  # of the functions' arguments, as in kernel.c
_WORDS_END = -1

States = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint16]


class Kernel(SearchLoops):
    """The compiled loops. Other threads run meanwhile; they must leave the arrays of a call alone.

    Raises OSError if `path` is no library for this machine, not whole, or of another version; ImportError if this
    Python was made without ctypes.
    """

    def __init__(self, path: Path) -> None:
        import ctypes

        self._ctypes = ctypes
        check_whole(path)
        library = ctypes.CDLL(str(path))
        a, n = ctypes.c_void_p, ctypes.c_int64  # the address of an array; a number or a length
        f, d = ctypes.c_float, ctypes.c_double

        def function(name: str, *arguments: type[Any]) -> Any:
            found = library[f"edgesem_{name}"]
            found.argtypes, found.restype = arguments, n
            return found

        try:
            version = function("kernel_version")()
            self._put = function("put", a, n, a, n, a, a, n, a, n)
            self._get = function("get", a, n, a, n, a, a, a, a, n, a, n, a)
            self._round = function("round", a, a, n, a, n, a, n, a, n, n, n, a, a, n, a, n, a)
            self._expect = function("expect", a, n, a, n, a, n, a, n, a, n, n, n, n, a, a)
            self._note = function("note", a, n, a, n, a, n, n, n, n, n, n, n)
            self._decide = function("decide", a, n, a, n, a, n, a, n, a, n, n, n, n, a, n, a, n, a, n, n, a, a, n, a, n,
                                    n, n, n, n, n, n, a, a, a)  # fmt: skip
            self._fill = function("fill", a, n, a, n, a, a, n, n, n, n, n, n)
            self._load_search(function, a, n, f, d)
            self.ways = function("best_way")() + 1
        except AttributeError as error:
            raise OSError(f"{path} is no kernel: {error}") from error
        if version != _VERSION:
            raise OSError(f"{path} has version {version}, not {_VERSION}")
        self.way = self.ways - 1  # which instruction set computes the networks, of those that this machine has

    def _at(self, array: npt.NDArray[Any], dtype: type[np.generic]) -> int:
        """Where an array begins, if it is what C takes it for: one value behind the other, of this type."""
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(
                f"entropy coder: an array of {array.dtype}, or one with gaps, is no array of {dtype.__name__}"
            )
        memory: Any = array  # its stubs do not say before Python 3.12 that it is a buffer
        try:
            return int(self._ctypes.addressof(self._ctypes.c_char.from_buffer(memory)))
        except (TypeError, ValueError):  # nothing in it, or for reading only; by itself this takes three times as long
            return array.ctypes.data

    def put(self, state: States, entries: Integers, tables: Tables, words: Words) -> int:
        """Code rows of entries, one for each state, the last first, into the end of `words`; how many words that took.

        The states are changed in place. Raises IndexError if there is no such entry, or no room for the words.
        """
        entries = np.ascontiguousarray(entries, np.int32)
        written: int = self._put(
            self._at(state, np.uint64),
            state.size,
            self._at(entries, np.int32),
            entries.size,
            self._at(tables.frequency, np.uint64),
            self._at(tables.start, np.uint64),
            tables.frequency.size,
            self._at(words, np.uint16),
            words.size,
        )
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
        taken: int = self._get(
            self._at(state, np.uint64),
            state.size,
            self._at(scale, np.int64),
            scale.size,
            self._at(tables.frequency, np.uint64),
            self._at(tables.start, np.uint64),
            self._at(tables.ends, np.int64),
            self._at(tables.likeliest, np.int32),
            tables.ends.size,
            self._at(words, np.uint16),
            words.size,
            self._at(entries, np.int32),
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
        count: int = self._round(
            self._at(mean, np.float32),
            self._at(scale, np.float32),
            mean.size,
            self._at(planes, np.float32),
            planes.shape[1],
            self._at(steps, np.float32),
            steps.shape[1],
            self._at(places, np.int64),
            places.size,
            least,
            tables.first,
            self._at(tables.radius, np.int32),
            self._at(tables.centre, np.int32),
            tables.radius.size,
            self._at(tables.eighths, np.int32),
            tables.eighths.size,
            self._at(entries, np.int32),
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
        plan, weights, rest = network
        mean, scale = np.empty((2, n, places.size), np.float32)
        if places.size and self._expect(
            self._at(rows, np.int16),
            rows.size,
            self._at(places, np.int32),
            places.size,
            self._at(plan, np.int32),
            plan.size,
            self._at(weights, np.int16),
            weights.size,
            self._at(rest, np.int32),
            rest.size,
            n,
            own,
            self.way,
            self._at(mean, np.float32),
            self._at(scale, np.float32),
        ):
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
        (plan, weights, rest), (planes, steps, at) = network, wanted
        n = len(planes)
        if len(steps) != n or at.shape != places.shape:
            raise TypeError("context model: there must be steps for each channel, and a position for each place")
        mean, scale = np.empty((2, n, places.size), np.float32)
        entries, coded = np.empty(mean.size, np.int32), 0
        if places.size:
            coded = self._decide(
                self._at(rows, np.int16),
                rows.size,
                self._at(places, np.int32),
                places.size,
                self._at(plan, np.int32),
                plan.size,
                self._at(weights, np.int16),
                weights.size,
                self._at(rest, np.int32),
                rest.size,
                n,
                own,
                self.way,
                self._at(planes, np.float32),
                planes.shape[1],
                self._at(steps, np.float32),
                steps.shape[1],
                self._at(at, np.int64),
                least,
                tables.first,
                self._at(tables.radius, np.int32),
                self._at(tables.centre, np.int32),
                tables.radius.size,
                self._at(tables.eighths, np.int32),
                tables.eighths.size,
                *where,
                self._at(mean, np.float32),
                self._at(scale, np.float32),
                self._at(entries, np.int32),
            )
        if coded < 0:
            raise IndexError("context model: a network sees more than there is, or there is no such table or position")
        return mean, entries[:coded]

    def note(self, rows: Rows, places: Integers, values: Planes, where: Sequence[int]) -> None:
        """Put values [n, places] into rows, as context.c says. Raises IndexError where that would be beyond them."""
        if values.shape[1:] != places.shape:
            raise TypeError("context model: there must be as many values as places")
        if self._note(
            self._at(rows, np.int16),
            rows.size,
            self._at(places, np.int32),
            places.size,
            self._at(values, np.float32),
            values.shape[0],
            *where,
        ):
            raise IndexError("context model: values lie beyond the rows")

    def fill(
        self, rows: Rows, places: Integers, reference: Planes, copied: npt.NDArray[np.bool_], where: Sequence[int]
    ) -> None:
        """Put a reference [n, places] into rows, as context.c says. Raises IndexError where that would be beyond."""
        reference = np.ascontiguousarray(reference, np.float32)
        if reference.shape[1:] != places.shape or copied.shape != places.shape:
            raise TypeError("context model: there must be as many values as places")
        if self._fill(self._at(rows, np.int16), rows.size, self._at(places, np.int32), places.size,
                      self._at(reference, np.float32), self._at(copied, np.bool_), len(reference), *where):  # fmt: skip
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

"""Kernel: loops of the entropy coder and the networks of the context model, compiled, where that could be done when
edgesem was installed.

kernel.c and context.c are a shared library that knows nothing of Python, loaded with ctypes: one build serves every
Python. It is optional. Without it edgesem.entropy.rans and edgesem.codec.context compute the same in Python and ONNX
Runtime, with the same bytes and the same errors, but more slowly; so they do where the environment variable
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

from edgesem.entropy.tables import Indices, Integers, Tables
from edgesem.errors import PacketError, UsageError

VARIABLE = "EDGESEM_KERNEL"
LIBRARY = Path(__file__).with_name("libkernel.so")
_VERSION = 2  # of the functions' arguments, as in kernel.c
_WORDS_END = -1

States = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.int16]
Planes = npt.NDArray[np.float32]


class Kernel:
    """The compiled loops. Other threads run meanwhile; they must leave the arrays of a call alone.

    Raises OSError if `path` is no library for this machine, or one of another version; ImportError if this Python was
    made without ctypes.
    """

    def __init__(self, path: Path) -> None:
        import ctypes

        library = ctypes.CDLL(str(path))
        a, n = ctypes.c_void_p, ctypes.c_int64  # the address of an array; a number or a length

        def function(name: str, *arguments: type[Any]) -> Any:
            found = library[f"edgesem_{name}"]
            found.argtypes, found.restype = arguments, n
            return found

        try:
            version = function("kernel_version")()
            self._put = function("put", a, n, a, n, a, a, n, a, n)
            self._get = function("get", a, n, a, n, a, a, a, a, n, a, n, a)
            self._round = function("round", a, a, a, n, n, n, a, a, n, a, n, a)
            self._expect = function("expect", a, n, a, n, a, n, a, n, a, n, n, n, n, a, a)
            self._note = function("note", a, n, a, n, a, n, n, n, n, n, n, n)
            self.ways = function("best_way")() + 1
        except AttributeError as error:
            raise OSError(f"{path} is no kernel: {error}") from error
        if version != _VERSION:
            raise OSError(f"{path} has version {version}, not {_VERSION}")
        self.way = self.ways - 1  # which instruction set computes the networks, of those that this machine has

    def put(self, state: States, entries: Integers, tables: Tables, words: Words) -> int:
        """Code rows of entries, one for each state, the last first, into the end of `words`; how many words that took.

        The states are changed in place. Raises IndexError if there is no such entry, or no room for the words.
        """
        entries = np.ascontiguousarray(entries, np.int32)
        written: int = self._put(
            _address(state, np.uint64),
            state.size,
            _address(entries, np.int32),
            entries.size,
            _address(tables.frequency, np.uint64),
            _address(tables.start, np.uint64),
            tables.frequency.size,
            _address(words, np.uint16),
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
            _address(state, np.uint64),
            state.size,
            _address(scale, np.int64),
            scale.size,
            _address(tables.frequency, np.uint64),
            _address(tables.start, np.uint64),
            _address(tables.ends, np.int64),
            _address(tables.likeliest, np.int32),
            tables.ends.size,
            _address(words, np.uint16),
            words.size,
            _address(entries, np.int32),
        )
        if taken == _WORDS_END:
            raise PacketError("packet: the symbols end early")
        if taken < 0:
            raise IndexError("entropy coder: a scale index names no table")
        return entries, taken

    def round(self, mean: Planes, scale: Planes, wanted: Planes, tables: Tables, least: int) -> Integers:
        """The entries of symbols that are coded, given what is expected and what is wanted of each, in 1/8 and in
        whole steps. `mean` becomes the decoded values.

        All float32 of one shape. least: the lowest table that is used. Raises IndexError if there is no such table.
        """
        if not mean.shape == scale.shape == wanted.shape:
            raise TypeError("entropy coder: arrays of symbols must have one shape")
        entries = np.empty(mean.size, np.int32)
        count: int = self._round(
            _address(mean, np.float32),
            _address(scale, np.float32),
            _address(wanted, np.float32),
            mean.size,
            least,
            tables.first,
            _address(tables.radius, np.int32),
            _address(tables.centre, np.int32),
            tables.radius.size,
            _address(tables.eighths, np.int32),
            tables.eighths.size,
            _address(entries, np.int32),
        )
        if count < 0:
            raise IndexError("entropy coder: a scale index names no table")
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
            _address(rows, np.int16),
            rows.size,
            _address(places, np.int32),
            places.size,
            _address(plan, np.int32),
            plan.size,
            _address(weights, np.int16),
            weights.size,
            _address(rest, np.int32),
            rest.size,
            n,
            own,
            self.way,
            _address(mean, np.float32),
            _address(scale, np.float32),
        ):
            raise IndexError("context model: a network sees more than there is")
        return mean, scale

    def note(self, rows: Rows, places: Integers, values: Planes, where: Sequence[int]) -> None:
        """Put values [n, places] into rows, as context.c says. Raises IndexError where that would be beyond them."""
        if values.shape[1:] != places.shape:
            raise TypeError("context model: there must be as many values as places")
        if self._note(
            _address(rows, np.int16),
            rows.size,
            _address(places, np.int32),
            places.size,
            _address(values, np.float32),
            values.shape[0],
            *where,
        ):
            raise IndexError("context model: values lie beyond the rows")


def _address(array: npt.NDArray[Any], dtype: type[np.generic]) -> int:
    """Where an array begins, if it is what C takes it for: one value behind the other, of this type.

    numpy.ctypeslib.ndpointer checks the same, but a call with it takes 1.3 to 1.7 times as long.
    """
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"entropy coder: an array of {array.dtype}, or one with gaps, is no array of {dtype.__name__}")
    return array.ctypes.data


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

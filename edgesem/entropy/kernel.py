"""Kernel: the two loops of the entropy coder, compiled, where that could be done when edgesem was installed.

kernel.c is a shared library that knows nothing of Python, loaded with ctypes: one build serves every Python. It is
optional. Without it edgesem.entropy.rans computes the same in Python, with the same bytes and the same errors, but more
slowly; so it does where the environment variable EDGESEM_KERNEL is `python`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgesem.entropy.tables import Indices, Integers, Tables
from edgesem.errors import PacketError, UsageError

VARIABLE = "EDGESEM_KERNEL"
LIBRARY = Path(__file__).with_name("libkernel.so")
_VERSION = 1  # of the functions' arguments, as in kernel.c
_WORDS_END = -1

States = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint16]


class Kernel:
    """The compiled loops. Other threads run meanwhile; they must leave the arrays of a call alone.

    Raises OSError if `path` is no library for this machine, or one of another version; ImportError if this Python was
    made without ctypes.
    """

    def __init__(self, path: Path) -> None:
        import ctypes

        from numpy.ctypeslib import ndpointer

        library = ctypes.CDLL(str(path))
        try:
            version, self._put, self._get = library.edgesem_kernel_version, library.edgesem_put, library.edgesem_get
        except AttributeError as error:
            raise OSError(f"{path} is no kernel: {error}") from error
        kinds = (np.uint64, np.int64, np.int32, np.uint16)
        u64, i64, i32, u16 = (ndpointer(kind, flags="C_CONTIGUOUS") for kind in kinds)
        number = ctypes.c_int64
        version.argtypes = ()
        self._put.argtypes = (u64, number, i32, number, u64, u64, number, u16, number)
        self._get.argtypes = (u64, number, i64, number, u64, u64, i64, i32, number, u16, number, i32)
        version.restype = self._put.restype = self._get.restype = number
        if version() != _VERSION:
            raise OSError(f"{path} has version {version()}, not {_VERSION}")

    def put(self, state: States, entries: Integers, tables: Tables, words: Words) -> int:
        """Code rows of entries, one for each state, the last first, into the end of `words`; how many words that took.

        The states are changed in place. Raises IndexError if there is no such entry, or no room for the words, and
        ctypes.ArgumentError for an array of another type or with gaps.
        """
        entries = np.ascontiguousarray(entries, np.int32)
        known = (tables.frequency, tables.start, tables.frequency.size)
        written: int = self._put(state, state.size, entries, entries.size, *known, words, words.size)
        if written < 0:
            raise IndexError("entropy coder: no table has such an entry, or there is no room for its words")
        return written

    def get(self, state: States, scale: Indices, tables: Tables, words: Words) -> tuple[Integers, int]:
        """The entries of rows of symbols, one for each state, given their scale indices; and how many words that took.

        The states are changed in place. Raises PacketError when the words end early, IndexError if there is no such
        table, and ctypes.ArgumentError as `put`.
        """
        scale = np.ascontiguousarray(scale, np.int64)
        entries = np.empty(scale.size, np.int32)
        known = (tables.frequency, tables.start, tables.ends, tables.likeliest, tables.ends.size)
        taken: int = self._get(state, state.size, scale, scale.size, *known, words, words.size, entries)
        if taken == _WORDS_END:
            raise PacketError("packet: the symbols end early")
        if taken < 0:
            raise IndexError("entropy coder: a scale index names no table")
        return entries, taken


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

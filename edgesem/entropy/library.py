"""Library: a shared library of C functions that take arrays, loaded with ctypes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "i16": np.int16,
    "u16": np.uint16,
    "i32": np.int32,
    "i64": np.int64,
    "u64": np.uint64,
    "f32": np.float32,
    "bool": np.bool_,
}
_LOADED = 1  # kind of the parts of a file that are mapped


def open_library(path: Path, prefix: str, signatures: Mapping[str, str]) -> SimpleNamespace:
    """The functions `prefix` + name of a library, by name; each returns an int64.

    A signature has a word for each argument of the call: `n` an int64, `f` a float, `d` a double; `f32*` an array of
    that type, of which C gets the address, `f32?` the same or None, `f32[]` one of which it also gets the size, next.
    The call raises TypeError for an array of another type, or one with gaps.

    Raises OSError if `path` is no library for this machine, not whole, or lacks a function; ImportError if this Python
    was made without ctypes.
    """
    import ctypes

    numbers: dict[str, Any] = {"n": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double}

    def address(array: npt.NDArray[Any], dtype: type[np.generic]) -> int:
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise TypeError(f"kernel: an array of {array.dtype}, or one with gaps, is no array of {dtype.__name__}")
        memory: Any = array  # its stubs do not say before Python 3.12 that it is a buffer
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(memory))
        except (TypeError, ValueError):  # nothing in it, or for reading only; by itself this takes three times as long
            return array.ctypes.data

    def function(name: str, signature: str) -> Callable[..., int]:
        words = re.findall(r"(\w+)(\S*)", signature)
        kinds = [(None if word in numbers else _TYPES[word], mark) for word, mark in words]
        types: list[Any] = []
        for word, mark in words:
            types += [numbers.get(word, ctypes.c_void_p), *[ctypes.c_int64] * (mark == "[]")]
        found = library[prefix + name]
        found.restype, found.argtypes = ctypes.c_int64, types

        def call(*given: Any) -> int:
            arguments: list[Any] = []
            for one, (dtype, mark) in zip(given, kinds, strict=True):
                if dtype is None or (one is None and mark == "?"):
                    arguments.append(one)
                    continue
                arguments.append(address(one, dtype))
                if mark == "[]":
                    arguments.append(one.size)
            result: int = found(*arguments)
            return result

        return call

    _check_whole(path)
    library = ctypes.CDLL(str(path))
    try:
        return SimpleNamespace(**{name: function(name, signature) for name, signature in signatures.items()})
    except AttributeError as error:
        raise OSError(f"{path} is no kernel: {error}") from error


def _check_whole(path: Path) -> None:
    """Raise OSError if a 64-bit ELF file is shorter than the parts of it that loading maps, or its header ends early:
    to load a library that was cut off kills the process.

    Files of other kinds are not looked at: the system refuses those that it does not know.
    """
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return
    try:
        (table,) = struct.unpack_from("<Q", data, 32)
        each, count = struct.unpack_from("<HH", data, 54)
        for entry in range(table, table + each * count, each or 1):
            kind, _, offset = struct.unpack_from("<IIQ", data, entry)
            (size_bytes,) = struct.unpack_from("<Q", data, entry + 32)
            if kind == _LOADED and offset + size_bytes > len(data):
                raise OSError(f"{path} ends early")
    except (struct.error, OverflowError) as error:
        raise OSError(f"{path} ends within its header") from error

"""Reader of the .npz files of a bundle: arrays of numbers, with every size checked before memory is taken for it."""

from __future__ import annotations

import ast
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError

MAX_ARRAY_BYTES = 1 << 25  # the largest that ships has 1 MB
_MAX_HEADER_BYTES = 1 << 12
_NUMBERS = "fiu"  # numpy's kinds of floats, integers with and without a sign
_HEADS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # versions of .npy, and how many bytes give the header's length


def read_arrays(path: Path, names: Iterable[str], optional: Iterable[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """The arrays `names` of an .npz file, and those of `optional` that are there; others are not looked at.

    They are real numbers of at most 32 MB an array, in no more than memory for one of them at a time beside the result.
    BundleError for anything else, whatever the bytes are.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            for name in (*names, *(name for name in optional if f"{name}.npy" in members)):
                if f"{name}.npy" not in members:
                    raise ValueError(f"there is no {name}")
                with archive.open(f"{name}.npy") as member:
                    data = member.read(_MAX_HEADER_BYTES + MAX_ARRAY_BYTES + 1)  # unpacks no more than that
                found[name] = _array(name, data)
    except Exception as error:  # zipfile and zlib let out whatever a damaged file makes them stumble on
        raise BundleError(f"{path} does not hold the arrays of a bundle: {error or type(error).__name__}") from error
    return found


def _array(name: str, data: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of an .npy file (NumPy Enhancement Proposal 1). ValueError for anything else."""
    if data[:6] != b"\x93NUMPY" or tuple(data[6:8]) not in _HEADS:
        raise ValueError(f"{name} is no array")
    start = 8 + _HEADS[data[6], data[7]]
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), _MAX_HEADER_BYTES):
        raise ValueError(f"{name} has no header of an array")
    header = ast.literal_eval(data[start:end].decode("latin-1"))
    kind, shape = np.dtype(str(header["descr"])), header["shape"]
    if kind.kind not in _NUMBERS or kind.hasobject or kind.subdtype is not None:
        raise ValueError(f"{name} does not hold numbers, but {kind}")
    if type(shape) is not tuple or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{name} has no shape")
    if math.prod(shape) * kind.itemsize != len(data) - end or len(data) - end > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} has not the size that it says, or more than {MAX_ARRAY_BYTES >> 20} MB")
    values: npt.NDArray[Any] = np.frombuffer(data, kind, offset=end)
    return values.reshape(shape[::-1]).T if header["fortran_order"] else values.reshape(shape)

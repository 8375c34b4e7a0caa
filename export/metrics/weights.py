"""Weights of the networks that judge pictures, out of files that the user has (none ship with edgesem).

Files are npz, safetensors, or those of `torch.save`; names are brought to one form, whoever wrote the file:

    conv0.w [O,I,k,k], conv0.b [O], ...   convolutions in the order of the network
    lin0 [C], lin1 [C], ...               linear weights of LPIPS, a layer each
    alpha, beta [1475]                    weights of DISTS
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, require

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, NDArray[np.float32]]

_LAYER = re.compile(r"((?:.*\.)?)(\d+)\.(weight|bias)")  # torchvision, timm, and the state of LPIPS and DISTS
_LINEAR = re.compile(r"(lin\d)\.model\.1\.weight")
_KEPT = re.compile(r"conv\d+\.[wb]|lin\d|alpha|beta")


def read_weights(*paths: Path) -> tuple[Arrays, str]:
    """The arrays of all these files by their names in edgesem, as float32, and the SHA-256 over the files.

    What a later file holds replaces the same of an earlier one. Raises InputError for a file that cannot be read.
    """
    found: Arrays = {}
    seen = hashlib.sha256()
    for path in paths:
        try:
            data = path.read_bytes()
            found |= _named(_read(path))
        except Exception as error:  # readers of three formats have no common base
            reason = next(iter(str(error).splitlines()), type(error).__name__)  # torch adds a page of advice
            raise InputError(
                f"{path} cannot be read as weights ({reason}): name an npz, a safetensors file, or one of torch.save"
            ) from error
        seen.update(data)
    return found, seen.hexdigest()


def network_weights(paths: Path | Sequence[Path], wanted: Iterable[str], what: str) -> tuple[dict[str, Tensor], str]:
    """Arrays of the user's files as tensors, and the SHA-256 over them. Raises InputError if one is lacking."""
    torch = require("torch", "export")
    paths = [paths] if isinstance(paths, Path) else paths
    wanted = list(wanted)
    arrays, digest = read_weights(*paths)
    lacking = [name for name in wanted if name not in arrays]
    if lacking:
        names = ", ".join(str(path) for path in paths)
        raise InputError(
            f"{names}: no {what} weights: of {wanted[0]} .. {wanted[-1]}, {', '.join(lacking)} are lacking"
        )
    return {name: torch.from_numpy(arrays[name]) for name in wanted}, digest


def convolutions(arrays: Mapping[str, object]) -> int:
    """How many convolutions there are, from the first on."""
    return next(index for index in range(len(arrays) + 1) if f"conv{index}.w" not in arrays)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        return dict(require("safetensors.numpy", "export").load_file(path))
    torch = require("torch", "export")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.float().numpy() for name, value in state.items() if hasattr(value, "float")}


def _named(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    found: Arrays = {}
    layers: dict[tuple[int, str], dict[str, NDArray[Any]]] = {}
    for name, value in arrays.items():
        if match := _LINEAR.fullmatch(name):
            found[match[1]] = _float32(value).ravel()
        elif match := _LAYER.fullmatch(name):
            layers.setdefault((int(match[2]), match[1]), {})[match[3]] = value
        elif _KEPT.fullmatch(name):
            found[name] = _float32(value).ravel() if name in ("alpha", "beta") else _float32(value)
    kernels = [layer for _, layer in sorted(layers.items()) if layer.get("weight", np.empty(0)).ndim == 4]
    kernels = [layer for layer in kernels if layer["weight"].shape[-1] > 1 and "bias" in layer]
    for index, layer in enumerate(kernels):
        found[f"conv{index}.w"], found[f"conv{index}.b"] = _float32(layer["weight"]), _float32(layer["bias"])
    return found


def _float32(value: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(value, np.float32)

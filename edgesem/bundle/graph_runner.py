"""The interface of whatever runs an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError

Arrays = dict[str, npt.NDArray[np.float32]]


class GraphRunner(Protocol):
    """What runs one graph. `run` may be called from several threads at once."""

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """The outputs of the graph by name, float32, for inputs by name: float32, or what the graph takes."""
        ...


def output_of(found: Arrays, name: str, shape: tuple[int, ...] = (), size: int = 0) -> npt.NDArray[np.float32]:
    """The output `name` of a graph, if it has this shape, or so many numbers. BundleError otherwise.

    A graph comes from a bundle's maker: that its digest is right does not say that it is the graph it should be.
    """
    array = found.get(name)
    if array is None:
        raise BundleError(f"a graph of the bundle has no output {name}, but {', '.join(found)}: export it again")
    if array.size != size if size else array.shape != shape:
        raise BundleError(
            f"a graph of the bundle gives {name} of shape {list(array.shape)}, it should be {list(shape) or size}: "
            "export it again"
        )
    return array

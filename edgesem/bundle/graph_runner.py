"""The interface of whatever runs an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]


class GraphRunner(Protocol):
    """What runs one graph. `run` may be called from several threads at once."""

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """The outputs of the graph by name, float32, for inputs by name."""
        ...

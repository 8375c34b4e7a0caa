"""The interface of whatever runs an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]


class GraphRunner(Protocol):
    """Takes named arrays and gives named arrays."""

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays: ...

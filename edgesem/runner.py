"""Running an ONNX graph: one interface, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError

Arrays = dict[str, npt.NDArray[np.float32]]


class Runner(Protocol):
    """Takes named arrays and gives named arrays."""

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays: ...


class OrtRunner:
    """ONNX Runtime on the CPU.

    Raises BundleError when the file is no graph that this runtime can run.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a board has other work to do
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BundleError(f"{path}: ONNX Runtime {ort.__version__} cannot run this graph: {error}") from error
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))

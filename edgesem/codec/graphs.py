"""Graphs: the networks of a bundle, loaded when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from threading import RLock

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.graph_runner import GraphRunner
from edgesem.bundle.runner import Precision, Runtime, open_runner
from edgesem.codec.compiled_context import CompiledNetworks, compile_networks
from edgesem.codec.context import Networks
from edgesem.errors import UsageError


class Graphs:
    """The networks of a bundle, each loaded once. Thread-safe, except `lend` and `close`.

    Arguments as of `edgesem.codec.codec.load`.
    """

    def __init__(self, bundle: Bundle, threads: int, precision: Precision, runtime: Runtime) -> None:
        self._bundle, self._threads, self._precision, self._runtime = bundle, threads, precision, runtime
        self._runners: dict[str, GraphRunner] = {}
        self._compiled: dict[Sequence[str], CompiledNetworks | None] = {}
        self._lock = RLock()
        self._opened = ExitStack()
        self._closed = False
        self._lent = False

    def runner(self, name: str) -> GraphRunner:
        """What runs a graph file. Raises UsageError once they are closed, BundleError for a file that is no graph."""
        with self._lock:
            if self._closed:
                raise UsageError("this codec is closed: load another one")
            if name not in self._runners:
                part = name.removesuffix(".onnx")
                runner = open_runner(self._bundle, part, self._threads, self._precision, self._runtime, pixels=True)
                self._opened.callback(runner.close)
                self._runners[name] = runner
            return self._runners[name]

    def networks(self, names: Sequence[str]) -> Networks:
        """The context networks in these files: compiled ones where that can be, unless a runner of one was lent."""
        with self._lock:
            if names not in self._compiled and not self._closed:
                lent = any(name in self._runners for name in names)
                files = [self._bundle.folder / name for name in names]
                self._compiled[names] = None if lent else compile_networks(files)
            return self._compiled.get(names) or [self.runner(name) for name in names]

    def lend(self, name: str, runner: GraphRunner) -> None:
        """Let `runner` run a graph file from now on; it stays the caller's."""
        self._runners[name], self._lent = runner, True
        self._compiled.clear()

    def close(self) -> None:
        """Free the networks. Closing twice is fine."""
        with self._lock:
            self._closed = True
            self._runners.clear()
            self._compiled.clear()
            self._opened.close()

    def opened_with(self) -> tuple[Bundle, int, Precision, Runtime]:
        """The arguments that open the same again. Raises UsageError where these would give something else."""
        if self._closed or self._lent:
            raise UsageError(
                "this codec cannot be pickled or copied: "
                + ("it is closed" if self._closed else "a runner was lent to it")
            )
        return self._bundle, self._threads, self._precision, self._runtime

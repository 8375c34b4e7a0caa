"""Every error that edgesem raises on purpose, in one tree.

EdgesemError                     exit code 1
├── PacketError (ValueError)         bytes from outside are not a packet
│   ├── ChecksumError                they look like one, but were damaged or cut short
│   └── MissingReference             a packet needs an earlier picture that is not here
├── BundleError (ValueError)         a bundle is missing, damaged, or not the one the packet needs
├── BudgetError (ValueError)         a byte budget cannot be met; says the smallest that can
├── FrameError (ValueError)          a picture has the wrong shape, type or size
├── InputError (ValueError)          a file or folder named by the user cannot be used
├── EstimateError (ValueError)       too few samples, or too many dimensions, for a number that means something
├── UsageError (ValueError)          options that do not go together            exit code 2
├── MissingDependency (ImportError)  an optional package is not installed       exit code 3
├── EnvironmentMissing (OSError)     no broker, no camera, no such device       exit code 3
├── LinkError (ConnectionError)      the link failed
└── ExportError (RuntimeError)       a model cannot be exported as promised

A message says what happened, where, and what to do about it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import ClassVar


class EdgesemError(Exception):
    """The root: `except EdgesemError` takes everything edgesem raises on purpose."""

    exit_code: ClassVar[int] = 1


class PacketError(EdgesemError, ValueError):
    """Bytes from outside are not a packet: magic, version, bounds or layers are wrong."""


class ChecksumError(PacketError):
    """A packet was damaged or cut short on its way."""


class MissingReference(PacketError):
    """A packet refers to a picture that is not here: ask its sender for a keyframe."""


class BundleError(EdgesemError, ValueError):
    """A bundle is missing, damaged, or not the one that a packet was made with."""


class BudgetError(EdgesemError, ValueError):
    """A byte budget cannot be met, not even at the lowest quality."""

    def __init__(self, message: str, smallest_bytes: int) -> None:
        super().__init__(message)
        self.smallest_bytes = smallest_bytes


class FrameError(EdgesemError, ValueError):
    """A picture has the wrong shape, type or size."""


class InputError(EdgesemError, ValueError):
    """A file or folder named by the user cannot be read, or has nothing in it."""


class EstimateError(EdgesemError, ValueError):
    """An estimate was refused: from so few samples, or so many dimensions, it would mean nothing."""


class UsageError(EdgesemError, ValueError):
    """Options or arguments that are wrong or do not go together."""

    exit_code: ClassVar[int] = 2


class MissingDependency(EdgesemError, ImportError):
    """An optional package is not installed; the message says what to install."""

    exit_code: ClassVar[int] = 3


class EnvironmentMissing(EdgesemError, OSError):
    """Something outside Python is missing: a broker, a camera, a device."""

    exit_code: ClassVar[int] = 3


class LinkError(EdgesemError, ConnectionError):
    """The link to the broker or to the other side failed."""


class ExportError(EdgesemError, RuntimeError):
    """A model cannot be exported with what is promised of it."""


def install_hint(*extras: str) -> str:
    """What to run for extras of edgesem; it is on no package index, so that takes a checkout."""
    return f"pip install '.[{','.join(extras)}]' in a checkout of edgesem"


def require(module: str, extra: str) -> ModuleType:
    """The imported module, or MissingDependency that says which extra brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency(f"{module} cannot be imported ({error}): run {install_hint(extra)}") from error

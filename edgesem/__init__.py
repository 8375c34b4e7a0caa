"""edgesem: pictures as semantic packets that fit a thin link.

    import edgesem
    codec = edgesem.load()
    data = codec.encode(frame, budget_bytes=2500)   # frame: uint8 [H, W, 3], RGB
    picture = codec.decode(data)

Importing this is cheap: each name loads its module when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime from 1.29 on reports its use over the network and keeps a device id on disk, unless this is set before it
# is imported. A device on a thin link must not; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgesem.codec.codec import Codec as Codec
    from edgesem.codec.codec import load as load
    from edgesem.codec.latent import Latent as Latent
    from edgesem.errors import BudgetError as BudgetError
    from edgesem.errors import BundleError as BundleError
    from edgesem.errors import ChecksumError as ChecksumError
    from edgesem.errors import EdgesemError as EdgesemError
    from edgesem.errors import EnvironmentMissing as EnvironmentMissing
    from edgesem.errors import EstimateError as EstimateError
    from edgesem.errors import ExportError as ExportError
    from edgesem.errors import FrameError as FrameError
    from edgesem.errors import InputError as InputError
    from edgesem.errors import LinkError as LinkError
    from edgesem.errors import MissingDependency as MissingDependency
    from edgesem.errors import PacketError as PacketError
    from edgesem.errors import UsageError as UsageError
    from edgesem.packet.packet import Packet as Packet

    __version__: str

_HOMES = {
    "Codec": "edgesem.codec.codec",
    "Latent": "edgesem.codec.latent",
    "load": "edgesem.codec.codec",
    "Packet": "edgesem.packet.packet",
}

__all__ = [
    "BudgetError",
    "BundleError",
    "ChecksumError",
    "Codec",
    "EdgesemError",
    "EnvironmentMissing",
    "EstimateError",
    "ExportError",
    "FrameError",
    "InputError",
    "Latent",
    "LinkError",
    "MissingDependency",
    "Packet",
    "PacketError",
    "UsageError",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgesem")
    if name not in __all__:
        raise AttributeError(f"module 'edgesem' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "edgesem.errors")), name)
    globals()[name] = value  # the next time costs nothing
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

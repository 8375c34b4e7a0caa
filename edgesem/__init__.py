"""edgesem: pictures as semantic packets that fit a thin link.

    import edgesem

    with edgesem.load() as codec:
        data = codec.encode(frame, budget_bytes=2500)  # frame: uint8 [H, W, 3], RGB
        picture = codec.decode(data)

The names in `__all__` are the public interface. Importing this is cheap: each name loads its module when it is first
used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime from 1.29 on reports its use over the network and keeps a device id on disk, unless this is set before it
# is imported. A device on a thin link must not; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle as Bundle
    from edgesem.bundle.graph_runner import GraphRunner as GraphRunner
    from edgesem.bundle.runner import Precision as Precision
    from edgesem.bundle.runner import Runtime as Runtime
    from edgesem.codec.codec import Codec as Codec
    from edgesem.codec.codec import load as load
    from edgesem.codec.latent import Latent as Latent
    from edgesem.codec.options import PackOptions as PackOptions
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
    from edgesem.errors import MissingReference as MissingReference
    from edgesem.errors import PacketError as PacketError
    from edgesem.errors import UsageError as UsageError
    from edgesem.packet.packet import Packet as Packet
    from edgesem.packet.side_information import Reference as Reference
    from edgesem.packet.side_information import Region as Region
    from edgesem.packet.side_information import SideInformation as SideInformation

    __version__: str

_HOMES = {
    "BudgetError": "edgesem.errors",
    "Bundle": "edgesem.bundle.bundle",
    "BundleError": "edgesem.errors",
    "ChecksumError": "edgesem.errors",
    "Codec": "edgesem.codec.codec",
    "EdgesemError": "edgesem.errors",
    "EnvironmentMissing": "edgesem.errors",
    "EstimateError": "edgesem.errors",
    "ExportError": "edgesem.errors",
    "FrameError": "edgesem.errors",
    "GraphRunner": "edgesem.bundle.graph_runner",
    "InputError": "edgesem.errors",
    "Latent": "edgesem.codec.latent",
    "LinkError": "edgesem.errors",
    "MissingDependency": "edgesem.errors",
    "MissingReference": "edgesem.errors",
    "PackOptions": "edgesem.codec.options",
    "Packet": "edgesem.packet.packet",
    "PacketError": "edgesem.errors",
    "Precision": "edgesem.bundle.runner",
    "Reference": "edgesem.packet.side_information",
    "Region": "edgesem.packet.side_information",
    "Runtime": "edgesem.bundle.runner",
    "SideInformation": "edgesem.packet.side_information",
    "UsageError": "edgesem.errors",
    "load": "edgesem.codec.codec",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("edgesem")
    if name not in _HOMES:
        raise AttributeError(f"module 'edgesem' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next time costs nothing
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})

"""Bundle: the folder with everything that a codec needs, and its manifest with the digest of each file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.arrays import read_arrays
from edgesem.bundle.manifest import MANIFEST, read_manifest
from edgesem.entropy.schedule import CHANNELS, PASSES, context_graph, reference_graph
from edgesem.entropy.tables import Tables
from edgesem.errors import BundleError

FORMAT = 3  # of the graphs and tables; raised when older ones can no longer be read
GOLDEN = "golden.json"  # packets and digests of what they decode to, for `edgesem verify`
DEFAULT = Path(__file__).parents[1] / "default_bundle"
DEFAULT_WORD = "default"  # what names it in every command and setting; a folder of that name needs its whole path
KEY = tuple(map(context_graph, range(len(PASSES))))  # the context model of keyframes
CODING = (*KEY, "tables.npz")  # both ends must share these to read the same symbols
REFERENCE = tuple(map(reference_graph, range(len(PASSES))))  # and of inter frames; a bundle has all of them or none
DECODER = "decoder.onnx"
LARGE_DECODER = "decoder.large.onnx"  # a bundle may lack it: for receivers that are computers
FLOW = "flow.onnx"  # it may lack this, too
MAX_BACKGROUNDS = 8
BACKGROUNDS = tuple(f"background_{number}.packet" for number in range(MAX_BACKGROUNDS))  # it may have the first few
REQUIRED = ("encoder.onnx", DECODER, *CODING)
_ARRAYS = ("radius", "frequency", "gain", "inverse_gain", "rate_guess")
_FOR_REFERENCES = ("reference_radius", "reference_frequency")
_LARGEST_GAIN = 1e9


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files have the digests in its manifest. Make it with `Bundle.open`. Thread-safe."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Bundle:
        """The bundle in `folder`; None and the word `default` are the one that ships.

        Raises BundleError when it is missing, incomplete or altered, when a name in its manifest is no plain file name,
        or when it is signed and the signature does not hold.
        """
        folder = DEFAULT if folder is None or str(folder) == DEFAULT_WORD else Path(folder)
        return cls(folder, read_manifest(folder, REQUIRED, FORMAT))

    def __reduce__(self) -> tuple[Any, ...]:
        return Bundle.open, (DEFAULT_WORD if self.folder == DEFAULT else self.folder.absolute(),)

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return dict(self.manifest["files"])

    @cached_property
    def id(self) -> int:
        """16 bits that stand in each packet, from the digests of what both ends share.

        That is the context model, the tables and the background pictures.
        """
        return self._id_of(*self.shared, *self.backgrounds)

    @property
    def plain_id(self) -> int:
        """The `id` that it would have without background pictures: what stands in those, which are packets, too."""
        return self._id_of(*self.shared)

    def _id_of(self, *names: str) -> int:
        joined = "".join(self.files[name] for name in names)
        return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:2], "little")

    @property
    def shared(self) -> tuple[str, ...]:
        """Its files that both ends must share to read the same symbols, without background pictures."""
        return (*CODING, *(REFERENCE if self.has_reference else ()))

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """Its files of background pictures, by number."""
        return tuple(takewhile(self.files.__contains__, BACKGROUNDS)) if self.has_reference else ()

    @property
    def has_reference(self) -> bool:
        """Whether it can code inter frames, which refer to earlier pictures."""
        return all(name in self.files for name in REFERENCE)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all files, in hex. Bundles of one `id` may differ in it, by their decoders."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / name).stat().st_size for name in (*self.files, MANIFEST))

    @cached_property
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        path = self.folder / "tables.npz"
        arrays = read_arrays(path, _ARRAYS, optional=_FOR_REFERENCES)
        for name, shape in {"gain": (256, CHANNELS), "inverse_gain": (256, CHANNELS), "rate_guess": (9, 9)}.items():
            found = arrays[name]
            largest = float(np.abs(found.astype(np.float64)).max()) if found.shape == shape else math.inf
            if not largest <= _LARGEST_GAIN:  # also where one is no number
                raise BundleError(f"{path}: {name} must be finite, {list(shape)}, up to {_LARGEST_GAIN:g}")
        if arrays["gain"].astype(np.float32).min() <= 0:
            raise BundleError(f"{path}: gain must be above 0")
        return arrays

    @cached_property
    def tables(self) -> Tables:
        """The tables of keyframes."""
        return Tables.of(self._arrays["radius"], self._arrays["frequency"])

    @cached_property
    def reference_tables(self) -> Tables:
        """The tables of inter frames."""
        if any(name not in self._arrays for name in _FOR_REFERENCES):
            return self.tables
        return Tables.of(*(self._arrays[name] for name in _FOR_REFERENCES))

    @property
    def gain(self) -> npt.NDArray[np.float32]:
        """float32 [256, 96]: quantizer steps per unit of the latent, for each quality and channel."""
        return self._arrays["gain"].astype(np.float32)

    @property
    def shrinkage(self) -> npt.NDArray[np.float32]:
        """float32 [256, 96]: factor on each channel of a decoded latent before it is drawn; smaller at low quality."""
        return np.asarray(self._arrays["gain"] * self._arrays["inverse_gain"], np.float32)

    @property
    def rate_guess(self) -> npt.NDArray[np.float64]:
        """float64 [9, 9]: the bytes a position that each of edgesem.codec.budget.features stands for."""
        return self._arrays["rate_guess"]

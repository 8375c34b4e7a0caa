"""Bundle: the folder with everything that a codec needs, and its manifest with the digest of each file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.entropy.schedule import CHANNELS, PASSES, context_graph, reference_graph
from edgesem.entropy.tables import Tables
from edgesem.errors import BundleError

FORMAT = 3  # of the graphs and tables; raised when older ones can no longer be read
MANIFEST = "manifest.json"
GOLDEN = "golden.json"  # packets and digests of what they decode to, for `edgesem verify`
DEFAULT = Path(__file__).parents[1] / "default_bundle"
CODING = (*map(context_graph, range(len(PASSES))), "tables.npz")  # both ends must share these to read the same symbols
REFERENCE = tuple(map(reference_graph, range(len(PASSES))))  # a bundle has all of them or none
REQUIRED = ("encoder.onnx", "decoder.onnx", *CODING)
_ARRAYS = ("radius", "frequency", "gain", "inverse_gain", "rate_guess")
_FOR_REFERENCES = ("reference_radius", "reference_frequency")
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files have the digests in its manifest. Make it with `Bundle.open`. Thread-safe."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str | None = None) -> Bundle:
        """The bundle in `folder`, or the default one. Raises BundleError when it is missing, incomplete or altered."""
        folder = DEFAULT if folder is None else Path(folder)
        path = folder / MANIFEST
        try:
            if path.stat().st_size > _MAX_MANIFEST_BYTES:
                raise BundleError(f"{path} is larger than {_MAX_MANIFEST_BYTES} bytes: this is no manifest")
            manifest = json.loads(path.read_text())
            files = manifest["files"]
            wrong = [name for name in {*REQUIRED, *files} if digest_of(folder / Path(name).name) != files.get(name)]
        except OSError as error:
            raise BundleError(f"no bundle in {folder}: {error}; make one with edgesem export") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{path} cannot be read as a manifest: {error!r}") from error
        if manifest.get("format") != FORMAT:
            raise BundleError(
                f"{folder}: a bundle of format {manifest.get('format')}, this edgesem reads format {FORMAT}: export it "
                "again from its run"
            )
        if wrong:
            raise BundleError(f"{folder}: {', '.join(sorted(wrong))} is not what the manifest says: copy it again")
        return cls(folder, manifest)

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return dict(self.manifest["files"])

    @cached_property
    def id(self) -> int:
        """16 bits that stand in each packet, from the digests of what both ends share: context model and tables."""
        joined = "".join(self.files[name] for name in (*CODING, *(REFERENCE if self.has_reference else ())))
        return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:2], "little")

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
        try:
            with np.load(self.folder / "tables.npz", allow_pickle=False) as stored:
                arrays = {
                    name: stored[name] for name in (*_ARRAYS, *_FOR_REFERENCES) if name in stored or name in _ARRAYS
                }
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"{self.folder / 'tables.npz'} does not hold tables and gains: {error}") from error
        shapes = {"gain": (256, CHANNELS), "inverse_gain": (256, CHANNELS), "rate_guess": (9, 9)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise BundleError(f"{self.folder / 'tables.npz'}: {name} must be finite, {list(shape)}")
        if arrays["gain"].min() <= 0:
            raise BundleError(f"{self.folder / 'tables.npz'}: gain must be above 0")
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


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

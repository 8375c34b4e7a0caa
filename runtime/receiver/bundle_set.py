"""Bundle set of a receiver: the bundles that it can decode, found by the id that stands in each packet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgesem.bundle.bundle import FLOW, Bundle
from edgesem.errors import UsageError
from runtime.receiver.synthesis import MAX_STEPS


class BundleSet:
    """Opened bundles by id: of several, so that senders can go to another bundle one by one. Thread-safe.

    `folders` as `Bundle.open` takes them. Raises BundleError for one that cannot be used, UsageError for two with one
    id: which of them draws a packet could not be told.
    """

    def __init__(self, folders: Sequence[Path | None]) -> None:
        self.folders = tuple(folders)
        """The folders, in the order in which they were named; None is the bundle that ships."""
        self._bundles: dict[int, Bundle] = {}
        for folder in self.folders:
            bundle = Bundle.open(folder)
            if bundle.id in self._bundles:
                first = self._bundles[bundle.id].folder
                raise UsageError(f"bundles {first} and {bundle.folder} have one id, {bundle.id:04x}: name one of them")
            self._bundles[bundle.id] = bundle
        if not self._bundles:
            raise UsageError("no bundle is named: a receiver needs one or more")

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, in the order in which the bundles were named."""
        return tuple(self._bundles)

    def get(self, bundle_id: int) -> Bundle | None:
        """The bundle with this id, or None."""
        return self._bundles.get(bundle_id)

    def max_steps(self) -> int:
        """Most steps of the flow decoder that one of them can do; 0: none."""
        return MAX_STEPS if any(FLOW in bundle.files for bundle in self._bundles.values()) else 0

    @property
    def has_reference(self) -> bool:
        """Whether one of them decodes inter frames."""
        return any(bundle.has_reference for bundle in self._bundles.values())

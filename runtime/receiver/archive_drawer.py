"""Archive drawer: draws archived frames, when somebody looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.errors import BundleError, PacketError, UsageError
from edgesem.packet.packet import Packet
from edgesem.picture import as_grey
from edgesem.provenance import Provenance
from runtime.receiver.archive_entry import Entry, FrameHistory
from runtime.receiver.stamp import STAMPS, clock_is_set, stamp_picture
from runtime.receiver.synthesis import SynthesisOptions

_HELD = 8
"""Latents that later frames may refer to, so that a run of them is not decoded from its keyframe for each."""


class ArchiveDrawer:
    """Draws frames of an archive or a catalogue with `codecs`, by the ids of their bundles. For one thread.

    Frames that follow each other in time are drawn fastest in that order. `stamp` is one of
    `runtime.receiver.stamp.STAMPS`, or a UsageError is raised.
    """

    def __init__(
        self,
        archive: FrameHistory,
        codecs: Mapping[int, Codec],
        synthesis: SynthesisOptions | None = None,
        *,
        stamp: str = "auto",
    ) -> None:
        if stamp not in STAMPS:
            raise UsageError(f"--stamp {stamp}: it is one of {', '.join(STAMPS)}")
        self._archive, self._codecs = archive, codecs
        self._synthesis, self._stamp = synthesis or SynthesisOptions(), stamp
        self._held: dict[tuple[str, int, int, int], Latent] = {}
        """By stream, epoch, frame and number of layers; the newest last."""

    def draw(self, entry: Entry) -> tuple[NDArray[np.uint8], Provenance]:
        """The picture of a frame, uint8 [H, W, 3], RGB, and how it was made.

        Raises EdgesemError as `latent` does.
        """
        latent, codec, packet = self.latent(entry)
        options, captured_ms = self._synthesis.for_bundle(codec.bundle), round(entry.captured_s * 1000)
        image = codec.synthesize(latent, **asdict(options))
        if entry.grey:
            image = as_grey(image)
        image = stamp_picture(
            image,
            self._stamp,
            name=entry.stream,
            captured_ms=captured_ms,
            steps=options.steps,
            clock_set=clock_is_set(packet, captured_ms),
        )
        return image, Provenance.of(packet, codec.bundle, **asdict(options), captured_ms=captured_ms)

    def latent(self, entry: Entry) -> tuple[Latent, Codec, Packet]:
        """Latent of a frame, for which those that it refers to are decoded first; the codec of its bundle; its packet.

        Raises InputError if one of them is not archived, PacketError if a packet refers to a later frame, BundleError
        if it was made with another bundle than those of `codecs`.
        """
        packet = self._archive.packet(entry)
        codec = self._codecs.get(packet.bundle_id)
        if codec is None:
            raise BundleError(
                f"frame {entry.frame} of {entry.stream} was made with bundle {packet.bundle_id:04x}: "
                "name that with --bundle too"
            )
        chain = [packet]
        latent: Latent | None = None
        while latent is None and (reference := chain[-1].side_info.reference) is not None:
            if reference.frame >= chain[-1].frame:
                raise PacketError(f"frame {chain[-1].frame} of {entry.stream} refers to one that is not before it")
            latent = self._held.get((entry.stream, entry.epoch, reference.frame, reference.layers))
            if latent is None:
                chain.append(self._archive.earlier(entry, reference.frame)[1].prefix(reference.layers))
        for one in reversed(chain):
            latent = codec.unpack(one, latent)
            self._hold((entry.stream, entry.epoch, one.frame, len(one.chunks)), latent)
        assert latent is not None
        return latent, codec, packet

    def _hold(self, key: tuple[str, int, int, int], latent: Latent) -> None:
        self._held[key] = latent
        while len(self._held) > _HELD:
            self._held.pop(next(iter(self._held)))


def spaced(entries: list[Entry], every_s: float) -> list[Entry]:
    """Of each stream's entries, which are in the order of time, those at least `every_s` seconds after one before."""
    last_s: dict[str, float] = {}
    found = []
    for entry in entries:
        if entry.captured_s >= last_s.get(entry.stream, float("-inf")) + every_s:
            last_s[entry.stream] = entry.captured_s
            found.append(entry)
    return found

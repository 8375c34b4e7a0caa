"""Frames of a clip as a sender codes them where acknowledgements come back within a frame's time.

keyframe <- inter frame <- inter frame ...      each is predicted from the one before
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgesem.codec.codec import Codec
from edgesem.codec.copying import Copying
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import PackOptions
from edgesem.codec.replenishment import Replenishment
from edgesem.codec.running_mean import RunningMean
from edgesem.entropy.schedule import GROUPS
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame
from export.bench.video.coded import Clock


@dataclass(frozen=True)
class ChainedFrame:
    """One frame of a chain: `clock` runs since the sender had it, and `decoded` is what a receiver has of it."""

    clock: Clock
    packet: Packet
    reference: Latent | None
    decoded: Latent

    @property
    def is_key(self) -> bool:
        """Whether it refers to no other frame."""
        return self.packet.side_info.reference is None

    @property
    def from_background(self) -> bool | None:
        """Whether a keyframe is predicted from a background picture of the bundle; None for an inter frame."""
        return self.packet.side_info.background is not None if self.is_key else None


def chained(
    codec: Codec,
    frames: Sequence[Frame],
    level: int,
    *,
    key_every: int | None = None,
    copying: Copying | None = None,
    mean: RunningMean | None = None,
) -> Iterator[ChainedFrame]:
    """All frames at one quality level, 0..255, each coded when it is asked for.

    key_every: frames from one keyframe to the next, None for one at the start. copying, mean: the sender's choices
    beside it; a running mean is none that it makes by itself.
    """
    copying = Copying() if copying is None else copying
    scene = Replenishment(codec.analyze)
    known: Latent | None = None
    for number, frame in enumerate(frames):
        clock = Clock()
        reference = None if key_every and number % key_every == 0 else known
        named = None if reference is None else Reference(number - 1, len(GROUPS))
        latent = scene.analyze(frame) if mean is None else codec.analyze(frame)
        copying.look(latent)
        if mean is not None:
            latent = mean.add(latent, copying.noise)
        options = PackOptions(frame=number)
        if named is not None:
            side_info = SideInformation(reference=named)
            options = PackOptions(frame=number, side_info=side_info, reference=reference, copying=copying)
        packet, known = codec.pack_decoded(latent, quality=level / LEVELS, options=options)
        yield ChainedFrame(clock, packet, reference, known)

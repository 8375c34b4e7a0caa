"""Options of one packet: what `Codec.pack` takes beside the latent and the size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgesem.codec.copying import Copies, Copying, Differences
from edgesem.codec.motion import moved
from edgesem.entropy.schedule import GROUPS
from edgesem.errors import UsageError
from edgesem.packet import motion
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import NO_SIDE_INFO, SideInformation

if TYPE_CHECKING:
    from edgesem.codec.latent import Latent


@dataclass(frozen=True)
class PackOptions:
    """How a latent is packed. Raises UsageError for a number of layers that cannot be."""

    layers: int = len(GROUPS)
    """The most layers that the packet gets, 1 to 4; `budget_bytes` may leave room for fewer."""
    side_info: SideInformation = NO_SIDE_INFO
    """What travels in the packet beside its layers; it counts toward `budget_bytes`. Where it names a region, that is
    coded finer than the rest."""
    reference: Latent | None = None
    """The decoded latent of the frame that `side_info.reference` names: the packet is then an inter frame, which
    codes only what differs, and a receiver needs that latent too. None: a keyframe."""
    background: bool = True
    """Whether a keyframe may refer to a background picture of the bundle, where that is smaller."""
    copying: Copying | None = None
    """Decides where the reference's positions have gone, and which of them an inter frame copies, after its `look` has
    seen the latent. None: nothing is moved, and all are coded."""
    previous: Packet | None = None
    """A packet of a similar picture, such as the frame before. It tells `budget_bytes` where to start looking, which
    saves some trials; the result is as good without it."""
    epoch: int = 0
    """Counts the sender's starts, 0 to 65535."""
    frame: int = 0
    """Number of the frame within its epoch, 0 to 2^32 - 1."""
    time_ms: int = 0
    """Capture time in Unix milliseconds, modulo 2^32."""

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= len(GROUPS):
            raise UsageError(f"layers must be 1 to {len(GROUPS)}, got {self.layers}")

    def side_info_with(self, copies: Copies | None) -> SideInformation:
        """The side information of a packet that copies so much of its reference."""
        named = self.side_info.prediction
        if copies is None or named is None:
            return self.side_info
        return self.side_info.predicted_from(replace(named, copies=copies.data))

    def with_motion(self, latent: Latent, gain: npt.NDArray[np.float32]) -> PackOptions:
        """These options with the reference moved to where the latent has it, if `copying` finds that it pays.

        gain [256, 96]: quantizer steps per unit at each quality.
        """
        reference, named = self.reference, self.side_info.reference
        if self.copying is None or reference is None or named is None:
            return self
        data = self.copying.motion(latent, reference, gain[reference.level or 0])
        if not data or len(data) >= self.side_info.room_bytes:
            return self
        side_info = replace(self.side_info, reference=replace(named, motion=data))
        field = motion.from_bytes(data, *latent.values.shape[1:])
        return replace(self, side_info=side_info, reference=moved(reference, field))

    def differences_of(self, latent: Latent) -> Differences | None:
        """How a latent differs from the reference, to say what is copied at which quality; None if nothing is."""
        if self.copying is None or self.reference is None:
            return None
        return self.copying.against(latent, self.reference, self.side_info.room_bytes)


DEFAULT_OPTIONS = PackOptions()

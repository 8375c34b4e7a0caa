"""References of a sender: the frames that an inter frame may be predicted from, and when a keyframe is due.

    made -> (a receiver decodes it) -> held -> may be referred to

A frame may be referred to once every live receiver has acknowledged that it holds its latent, and from how many layers.
Nothing is assumed without that, so what goes wrong on the way costs a keyframe and never a wrong picture.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference
from runtime.protocol.ack import Ack
from runtime.settings import KEYFRAME_INTERVAL_S, MAX_RECEIVERS

log = logging.getLogger(__name__)

REMEMBERED = 8  # frames; a receiver holds more, so that what is referred to is still there
SILENCE_S = 15.0
KEY_AT_ONCE_S = 5.0
"""Since the last keyframe, so that one is made at once when somebody asks."""
_MOST_RECEIVERS_REMEMBERED = 256


@dataclass(frozen=True)
class ReferenceFrame:
    """A latent that all receivers hold, and how a packet names it."""

    name: Reference
    latent: Callable[[], Any]
    """May have to decode it first."""


@dataclass
class _MadeFrame:
    """A frame made lately, and who holds it."""

    packet: Packet
    latent: Any
    """As decoded from all layers of the packet."""
    reference: Any
    """What it was itself predicted from."""
    holders: dict[int, int] = field(default_factory=dict)
    """From how many layers each receiver holds it."""
    fewer: dict[int, Any] = field(default_factory=dict)
    """As decoded from fewer layers, once somebody asked."""


class References:
    """Table of the frames made last and of who holds them. Not thread-safe: the publisher's lock guards it.

    `decode(packet, reference)` gives the latent of a packet of which not all layers came. Times are monotonic seconds
    given by the caller.
    """

    def __init__(
        self,
        decode: Callable[[Packet, Any], Any],
        *,
        epoch: int,
        key_interval_s: float = KEYFRAME_INTERVAL_S,
        silence_s: float = SILENCE_S,
        most_receivers: int = MAX_RECEIVERS,
    ) -> None:
        self._decode, self.epoch = decode, epoch
        self._key_interval_s, self._silence_s, self._most_receivers = key_interval_s, silence_s, most_receivers
        self._made: OrderedDict[int, _MadeFrame] = OrderedDict()
        self._last_ack_s: dict[int, float] = {}
        self._key_s = float("-inf")
        self._asked = False
        self._at_once_s = float("-inf")
        self._chosen = -1

    def made(self, packet: Packet, latent: Any, reference: Any, now_s: float) -> None:
        """A packet is on its way; `latent` is what is decoded from it, `reference` what it was predicted from."""
        if packet.side_info.reference is None:
            self._key_s, self._asked = now_s, False
        self._made[packet.frame] = _MadeFrame(packet, latent, reference)
        while len(self._made) > REMEMBERED and self._forget():
            pass

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """Take an acknowledgement: its receiver lives, and perhaps holds a frame. The latest of a frame counts."""
        if ack.receiver:
            self._last_ack_s[ack.receiver] = now_s
            if len(self._last_ack_s) > _MOST_RECEIVERS_REMEMBERED:
                self._last_ack_s.pop(next(iter(self._last_ack_s)))
            if ack.held and ack.epoch == self.epoch:
                self._held(ack.receiver, ack.frame, ack.held)

    def _held(self, receiver: int, frame: int, layers: int) -> None:
        made = self._made.get(frame)
        if made is not None and layers <= len(made.packet.chunks):
            made.holders[receiver] = layers
            if len(made.holders) > _MOST_RECEIVERS_REMEMBERED:
                made.holders.pop(next(iter(made.holders)))

    def ask_for_key(self, now_s: float) -> bool:
        """Somebody wants the next packet to be a keyframe. Whether it should be made at once, and not at its time.

        Not shortly after a keyframe, nor after another such request: whoever asks too often gets no more frames.
        """
        at_once = now_s - max(self._key_s, self._at_once_s) >= KEY_AT_ONCE_S
        if at_once:
            self._at_once_s = now_s
        self._asked = True
        return at_once

    def owes(self, now_s: float) -> bool:
        """Whether somebody has asked for a keyframe, none was made since, and the last one is some seconds old."""
        return self._asked and now_s - self._key_s >= KEY_AT_ONCE_S

    def choose(self, now_s: float) -> ReferenceFrame | None:
        """The newest frame that every live receiver holds from equally many layers; None for a keyframe."""
        self._last_ack_s = {who: at_s for who, at_s in self._last_ack_s.items() if now_s - at_s < self._silence_s}
        live = self._last_ack_s.keys()
        if self._asked or now_s - self._key_s >= self._key_interval_s or not 1 <= len(live) <= self._most_receivers:
            return None
        for frame, made in reversed(self._made.items()):
            layers = {made.holders.get(receiver, 0) for receiver in live}
            if len(layers) == 1 and 0 not in layers:
                (count,) = layers
                self._choose(frame)
                return ReferenceFrame(Reference(frame, count), partial(self._latent, made, count))
        return None

    def _choose(self, frame: int) -> None:
        """Refer to a frame from now on. Earlier ones go, 1.2 MB each at 768x512: receivers forget them too."""
        self._chosen = frame
        for earlier in [number for number in self._made if number < frame]:
            del self._made[earlier]

    def clear(self) -> None:
        """Forget all frames: what comes next has another size, or nothing to do with them."""
        self._made.clear()
        self._chosen = -1

    def _latent(self, made: _MadeFrame, layers: int) -> Any:
        if layers == len(made.packet.chunks):
            return made.latent
        if layers not in made.fewer:
            made.fewer[layers] = self._decode(made.packet.prefix(layers), made.reference)
        return made.fewer[layers]

    def _forget(self) -> bool:
        """Forget the oldest frame, but not what packets refer to now, nor what they will refer to next."""
        held = [frame for frame, made in self._made.items() if made.holders]
        needed = {self._chosen, held[-1] if held else None}
        for frame in list(self._made)[:-1]:
            if frame not in needed:
                del self._made[frame]
                return True
        return False

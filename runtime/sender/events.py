"""Events of a sender: what it reports, as it happens, to the `on_event` callback.

Each is a small frozen dataclass. `as_dict()` is the line that `edgesem send --json` prints, and its key `event` is the
class attribute of that name. Callbacks run on the sender's own threads, some under its lock: return soon, and call
nothing of the sender.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from runtime.protocol.state import State


@dataclass(frozen=True)
class SenderEvent:
    """Base class of all events."""

    event: ClassVar[str] = ""
    """The event's name in JSON."""

    def as_dict(self) -> dict[str, Any]:
        """The event by name, for JSON: `event` and its fields."""
        return {"event": self.event, **{field.name: getattr(self, field.name) for field in fields(self)}}


@dataclass(frozen=True)
class Connected(SenderEvent):
    """A connection to the broker was made."""

    event: ClassVar[str] = "connected"
    rtt_s: float | None
    """Shortest round trip of a small message, in seconds; None if it was not measured."""


@dataclass(frozen=True)
class Disconnected(SenderEvent):
    """The connection to the broker was lost."""

    event: ClassVar[str] = "disconnected"


@dataclass(frozen=True)
class FramePacked(SenderEvent):
    """A frame was coded."""

    event: ClassVar[str] = "packed"
    frame: int
    name: str
    budget_bytes: int
    """What its messages might have together."""
    capacity_bps: int | None
    layers_packed: int
    size_bytes: int
    q: int
    """Quality level, 0 to 255."""
    refers_to: int | None
    """Number of the frame that it was predicted from; None for a keyframe."""
    analyze_s: float
    pack_s: float


@dataclass(frozen=True)
class SceneCut(SenderEvent):
    """A frame is coded as a keyframe, because it has little in common with its reference."""

    event: ClassVar[str] = "cut"
    frame: int


@dataclass(frozen=True)
class PictureResized(SenderEvent):
    """From now on pictures are coded at another size: there are few bytes for each, or enough again."""

    event: ClassVar[str] = "resized"
    percent: int
    """Of the sides that were captured."""


@dataclass(frozen=True)
class FrameSkipped(SenderEvent):
    """A frame was left out: the link had no room for it, or only at less than the least quality."""

    event: ClassVar[str] = "skipped"
    frame: int
    """The number that the next frame gets."""


@dataclass(frozen=True)
class FrameUnchanged(SenderEvent):
    """A frame was left out by the semantic trigger: the receiver knows all that it shows."""

    event: ClassVar[str] = "unchanged"
    name: str
    novelty: float
    """Semantic distance from what the receiver knows, in thresholds; below 1 is nothing new."""


@dataclass(frozen=True)
class FrameTriggered(SenderEvent):
    """A frame was sent by the semantic trigger's decision."""

    event: ClassVar[str] = "news"
    frame: int
    novelty: float
    query: str = ""
    """What it fits best of what is looked for; empty if nothing is."""
    score: float = 0.0
    """How well, 0 to 1."""

    def as_dict(self) -> dict[str, Any]:
        """As for each event; `query` and `score` are left out where nothing is looked for."""
        found = {"query": self.query, "score": self.score} if self.query else {}
        return {"event": self.event, "frame": self.frame, "novelty": self.novelty, **found}


@dataclass(frozen=True)
class LayersSent(SenderEvent):
    """A message was handed to the link."""

    event: ClassVar[str] = "sent"
    frame: int
    layer: int
    """The first layer in the message."""
    layers: int
    """How many layers it has."""
    size_bytes: int


@dataclass(frozen=True)
class LayersDropped(SenderEvent):
    """Layers of a frame were not sent, because a newer frame was there or the connection was lost."""

    event: ClassVar[str] = "dropped"
    frame: int
    first_layer: int
    layers: int


@dataclass(frozen=True)
class LayersAcknowledged(SenderEvent):
    """A receiver has a message."""

    event: ClassVar[str] = "acked"
    frame: int
    layer: int
    layers: int
    delay_s: float
    """From capture to reception, by the two clocks."""
    kept: int
    """1 if it is on the receiver's disk."""


@dataclass(frozen=True)
class FramePromised(SenderEvent):
    """A frame is in the spool, on disk, and will be sent until a receiver keeps it."""

    event: ClassVar[str] = "promised"
    epoch: int
    frame: int
    name: str


@dataclass(frozen=True)
class PromiseRefused(SenderEvent):
    """The spool had no room for a frame, which goes as an ordinary one."""

    event: ClassVar[str] = "refused"
    epoch: int
    frame: int
    name: str


@dataclass(frozen=True)
class PromiseKept(SenderEvent):
    """A receiver keeps a promised frame on its disk, and the spool has forgotten it."""

    event: ClassVar[str] = "kept"
    epoch: int
    frame: int


@dataclass(frozen=True)
class PromiseRejected(SenderEvent):
    """A promised frame that nobody takes is a dead letter now: it stays in the spool, and holds up no other."""

    event: ClassVar[str] = "rejected"
    row: int
    """Its number in the spool."""
    reason: str


@dataclass(frozen=True)
class MessageRefused(SenderEvent):
    """The broker has refused a message, or it is larger than the broker takes."""

    event: ClassVar[str] = "denied"
    frame: int
    layer: int
    topic: str
    reason: str


@dataclass(frozen=True)
class EventBegun(SenderEvent):
    """Frames of the last seconds are promised, and those of the next ones will be: something happens."""

    event: ClassVar[str] = "event_begun"
    id: str
    """The event's number, 8 hexadecimal digits."""
    cause: str
    """ask, watch, change or gpio."""
    label: str


@dataclass(frozen=True)
class EventEnded(SenderEvent):
    """The last frame of an event was captured; if something happens again at once, it goes on."""

    event: ClassVar[str] = "event_ended"
    id: str
    frames: int


@dataclass(frozen=True)
class CommandTaken(SenderEvent):
    """A command from the stream's `cmd` topic was obeyed."""

    event: ClassVar[str] = "asked"
    kind: str


@dataclass(frozen=True)
class BundleMissing(SenderEvent):
    """A receiver says that it cannot decode what is sent: it does not have the sender's bundle."""

    event: ClassVar[str] = "other_bundle"
    bundles: tuple[str, ...]
    """The ids of the bundles that it has instead, four hexadecimal digits each."""


@dataclass(frozen=True)
class StateReported(SenderEvent):
    """The stream's state was published."""

    event: ClassVar[str] = "state"
    state: State

    def as_dict(self) -> dict[str, Any]:
        """`event` and the state's fields."""
        return {"event": self.event, **self.state.as_dict()}

"""What the other side may ask of a sender: a snapshot, a key frame, a pause, a part of the picture."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

import cbor2

from edgesem.errors import PacketError
from runtime.message import Fields

MAX_COMMAND_BYTES = 256
KINDS = ("snapshot", "key", "pause", "resume", "roi")
_IDS = 2**64 - 1
_REMEMBERED = 4096
_SMALLEST_SNAPSHOT_BYTES, _LARGEST_SNAPSHOT_BYTES = 256, 65535
_LONGEST_PAUSE_S = 86400
_SMALLEST_ROI = 1 / 64


@dataclass(frozen=True)
class Command:
    """One request; which fields count depends on its kind. Raises PacketError if it asks what may not be asked."""

    kind: str
    id: int = field(default_factory=lambda: secrets.randbelow(_IDS) + 1)
    size_bytes: int = 8000
    """snapshot: the most that the picture may have."""
    pause_s: float = 0.0
    """pause: how long; 0 until resumed."""
    roi: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """roi: left, top, width and height of what to send from now on, in parts of the whole."""

    def __post_init__(self) -> None:
        left, top, width, height = self.roi
        if self.kind not in KINDS:
            raise PacketError(f"command: unknown kind, known are {', '.join(KINDS)}")
        inside = 0 <= left <= 1 - width + 1e-6 and 0 <= top <= 1 - height + 1e-6
        if not (inside and width >= _SMALLEST_ROI and height >= _SMALLEST_ROI):
            raise PacketError("command: the roi is too small or leaves the picture")

    def to_bytes(self) -> bytes:
        """The command as it is published."""
        left, top, width, height = self.roi
        rest: dict[str, dict[str, float]] = {
            "snapshot": {"b": self.size_bytes},
            "pause": {"s": self.pause_s},
            "roi": {"x": left, "y": top, "w": width, "h": height},
        }
        return cbor2.dumps({"c": self.kind, "i": self.id, **rest.get(self.kind, {})})

    @classmethod
    def from_bytes(cls, data: bytes) -> Command:
        """The command that stands in `data`; PacketError for anything else, whatever the bytes are."""
        fields = Fields(data, what="command", limit_bytes=MAX_COMMAND_BYTES)
        kind, number = fields.text("c", 16), fields.integer("i", _IDS)
        if kind == "snapshot":
            size_bytes = fields.integer("b", _LARGEST_SNAPSHOT_BYTES, _SMALLEST_SNAPSHOT_BYTES)
            command = cls(kind, number, size_bytes=size_bytes)
        elif kind == "pause":
            command = cls(kind, number, pause_s=fields.number("s", 0, _LONGEST_PAUSE_S))
        elif kind == "roi":
            left, top, width, height = (fields.number(key, 0, 1) for key in "xywh")
            command = cls(kind, number, roi=(left, top, width, height))
        else:
            command = cls(kind, number)
        fields.end()
        return command


class Once:
    """Which commands came already: QoS 1 may deliver one twice, and an eavesdropper may send it again."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def first_time(self, command: Command) -> bool:
        """Whether this command was not here before."""
        if command.id in self._seen:
            return False
        self._seen[command.id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

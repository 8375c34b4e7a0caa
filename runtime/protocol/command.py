"""Command: a request to a sender, for a snapshot, a pause, a part of the picture, a viewer, fewer bytes."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from dataclasses import fields as fields_of

import cbor2

from edgesem.errors import PacketError
from runtime.protocol.fields import Fields

MAX_COMMAND_BYTES = 4096
KINDS = (
    *("snapshot", "key", "pause", "resume", "roi", "region", "watch", "apart", "bundle", "view", "detail", "event"),
    "budget",
)
MAX_QUERIES = 8
MOST_BUNDLES = 32
PROMISED_BYTES = 8000
"""Size limit of a promised frame, where nobody asks for another."""
MIN_PROMISED_BYTES, MAX_PROMISED_BYTES = 256, 65535
"""What may be asked for instead."""
APART_S = 60.0
"""How long a sender heeds `apart` (each layer in a message of its own); a receiver of few layers repeats it."""
LONGEST_LABEL = 100
"""Characters of the label of an event that is asked for."""
MIN_FRAME_BYTES, LARGEST_FRAME_BYTES = 256, 200_000
"""What the size limit of ordinary frames may be."""
MAX_RATE_BPS = 1_000_000_000
"""The largest limit of their rate."""
LONGEST_LEASE_S = 600
"""The longest that a viewer may be taken for watching without saying so again."""
_IDS = 2**64 - 1
_REMEMBERED = 4096
_LONGEST_PAUSE_S = 86400
_SMALLEST_ROI = 1 / 64
_LONGEST_QUERY, _VECTOR_BYTES = 100, 64
_MOST_DROP = 255
_VIEWERS = 2**32 - 1


@dataclass(frozen=True)
class Command:
    """One request; which fields count depends on its kind. Raises PacketError for a field out of its bounds."""

    kind: str
    """snapshot, key (a keyframe), pause, resume, roi, region, watch (other queries), apart (layers in messages of their
    own), bundle (a receiver cannot decode what is sent), view (somebody watches), event (something happens now), detail
    (a part of the picture in the camera's full resolution), budget (limits of ordinary frames)."""
    id: int = field(default_factory=lambda: secrets.randbelow(_IDS) + 1)
    """Drawn by lot: a command that comes twice is obeyed once."""
    size_bytes: int = PROMISED_BYTES
    """snapshot, detail: the most that the picture may have."""
    pause_s: float = 0.0
    """pause: how long; 0 until resumed."""
    roi: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """roi: left, top, width and height of what to send from now on, in parts of the whole. region: of what is finer.
    detail: of what to send once."""
    drop: int = 90
    """region: how many quality levels (of 255) the rest is coarser; 0: no region any more."""
    queries: tuple[str, ...] = ()
    """watch: what to look for from now on; nothing if empty."""
    vectors: tuple[bytes, ...] = field(default=(), repr=False)
    """watch: for each query its embedding by a text encoder (edgesem.semantics.embedding), or b"" if it is a label's
    name."""

    bundles: tuple[int, ...] = ()
    """bundle: the ids of the bundles that the receiver has instead."""
    viewer: int = 0
    """view: number of who watches, drawn by lot, 0 to 2^32 - 1."""
    lease_s: int = 0
    """view: for how many seconds from now on; 0: no more."""
    label: str = ""
    """event: what it is called."""
    max_bytes: int | None = None
    """budget: the most that an ordinary frame may have from now on; 0: as at the start, None: as it is."""
    max_rate_bps: int | None = None
    """budget: the most bits a second of ordinary frames; 0: as at the start, None: as it is."""

    def __post_init__(self) -> None:
        left, top, width, height = self.roi
        if self.kind not in KINDS:
            raise PacketError(f"command: unknown kind, known are {', '.join(KINDS)}")
        inside = 0 <= left <= 1 - width + 1e-6 and 0 <= top <= 1 - height + 1e-6
        if not (inside and width >= _SMALLEST_ROI and height >= _SMALLEST_ROI):
            raise PacketError("command: the roi is too small or leaves the picture")
        if not 0 <= self.drop <= _MOST_DROP:
            raise PacketError(f"command: a region's drop is 0 to {_MOST_DROP}")
        named = all(0 < len(text) <= _LONGEST_QUERY and ";" not in text for text in self.queries)
        if len(self.queries) > MAX_QUERIES or not named:
            raise PacketError(f"command: at most {MAX_QUERIES} queries of 1 to {_LONGEST_QUERY} letters, without ;")
        fit = all(len(vector) in (0, _VECTOR_BYTES) for vector in self.vectors)
        if len(self.vectors) not in (0, len(self.queries)) or not fit:
            raise PacketError(f"command: a vector of {_VECTOR_BYTES} bytes, or none, for each query")
        if len(self.bundles) > MOST_BUNDLES or not all(0 <= one <= 0xFFFF for one in self.bundles):
            raise PacketError(f"command: at most {MOST_BUNDLES} bundles, by their ids of 16 bits")
        if len(self.label) > LONGEST_LABEL or not (self.label.isprintable() or not self.label):
            raise PacketError(f"command: an event's label is printable, of at most {LONGEST_LABEL} characters")
        if not 0 <= self.lease_s <= LONGEST_LEASE_S or not 0 <= self.viewer <= _VIEWERS:
            raise PacketError(f"command: a viewer watches for 0 to {LONGEST_LEASE_S} s, and has a number of 32 bits")
        if self.max_bytes and not MIN_FRAME_BYTES <= self.max_bytes <= LARGEST_FRAME_BYTES:
            raise PacketError(f"command: a frame may have {MIN_FRAME_BYTES} to {LARGEST_FRAME_BYTES} bytes")
        if not 0 <= (self.max_rate_bps or 0) <= MAX_RATE_BPS:
            raise PacketError(f"command: a rate is 0 to {MAX_RATE_BPS} bit/s")

    def __str__(self) -> str:
        """Its kind and what was asked besides, for a log: without the number and vectors."""
        known = [one for one in fields_of(self) if one.repr and one.name not in ("kind", "id")]
        named = [(one.name, getattr(self, one.name)) for one in known if getattr(self, one.name) != one.default]
        return " ".join([self.kind, *(f"{name}={value!r}" for name, value in named)])

    def to_bytes(self) -> bytes:
        """The command as it is published."""
        left, top, width, height = self.roi
        vectors = b"".join(vector or bytes(_VECTOR_BYTES) for vector in self.vectors)
        rest: dict[str, dict[str, float | str | bytes]] = {
            "snapshot": {"b": self.size_bytes},
            "pause": {"s": self.pause_s},
            "roi": {"x": left, "y": top, "w": width, "h": height},
            "region": {"x": left, "y": top, "w": width, "h": height, "d": self.drop},
            "watch": {"q": ";".join(self.queries), "v": vectors},
            "view": {"n": self.viewer, "s": self.lease_s},
            "event": {"l": self.label} if self.label else {},
            "detail": {"x": left, "y": top, "w": width, "h": height, "b": self.size_bytes},
            "bundle": {"h": b"".join(one.to_bytes(2, "little") for one in self.bundles)},
            "budget": _given(b=self.max_bytes, r=self.max_rate_bps),
        }
        return cbor2.dumps({"c": self.kind, "i": self.id, **rest.get(self.kind, {})})

    @classmethod
    def from_bytes(cls, data: bytes) -> Command:
        """The command that stands in `data`; PacketError for anything else, whatever the bytes are."""
        fields = Fields(data, what="command", limit_bytes=MAX_COMMAND_BYTES)
        kind, number = fields.text("c", 16), fields.integer("i", _IDS)
        if kind == "snapshot":
            size_bytes = fields.integer("b", MAX_PROMISED_BYTES, MIN_PROMISED_BYTES)
            command = cls(kind, number, size_bytes=size_bytes)
        elif kind == "pause":
            command = cls(kind, number, pause_s=fields.number("s", 0, _LONGEST_PAUSE_S))
        elif kind in ("roi", "region"):
            left, top, width, height = (fields.number(key, 0, 1) for key in "xywh")
            drop = fields.integer("d", _MOST_DROP) if kind == "region" else cls.drop
            command = cls(kind, number, roi=(left, top, width, height), drop=drop)
        elif kind == "detail":
            left, top, width, height = (fields.number(key, 0, 1) for key in "xywh")
            size_bytes = fields.integer("b", MAX_PROMISED_BYTES, MIN_PROMISED_BYTES)
            command = cls(kind, number, roi=(left, top, width, height), size_bytes=size_bytes)
        elif kind == "budget":
            max_bytes = fields.integer("b", LARGEST_FRAME_BYTES) if "b" in fields else None
            max_rate_bps = fields.integer("r", MAX_RATE_BPS) if "r" in fields else None
            command = cls(kind, number, max_bytes=max_bytes, max_rate_bps=max_rate_bps)
        elif kind == "event":
            command = cls(kind, number, label=fields.text("l", LONGEST_LABEL) if "l" in fields else "")
        elif kind == "view":
            command = cls(
                kind, number, viewer=fields.integer("n", _VIEWERS), lease_s=fields.integer("s", LONGEST_LEASE_S)
            )
        elif kind == "watch":
            texts = fields.text("q", MAX_QUERIES * (_LONGEST_QUERY + 1))
            command = cls(kind, number, queries=_parts(texts), vectors=_vectors(fields))
        elif kind == "bundle":
            command = cls(kind, number, bundles=_bundles(fields))
        else:
            command = cls(kind, number)
        return command


def _given(**numbers: int | None) -> dict[str, float | str | bytes]:
    return {key: number for key, number in numbers.items() if number is not None}


def _parts(texts: str) -> tuple[str, ...]:
    return tuple(texts.split(";")) if texts else ()


def _vectors(fields: Fields) -> tuple[bytes, ...]:
    joined = fields.raw("v", MAX_QUERIES * _VECTOR_BYTES, exact=False)
    pieces = (joined[start : start + _VECTOR_BYTES] for start in range(0, len(joined), _VECTOR_BYTES))
    return tuple(piece if any(piece) else b"" for piece in pieces)


def _bundles(fields: Fields) -> tuple[int, ...]:
    joined = fields.raw("h", 2 * MOST_BUNDLES, exact=False)
    if len(joined) % 2:
        raise PacketError("command: h must be 2 bytes for each bundle")
    return tuple(int.from_bytes(joined[at : at + 2], "little") for at in range(0, len(joined), 2))


class SeenCommands:
    """Memory of the commands that came already: QoS 1 may deliver one twice, and an eavesdropper may replay it."""

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

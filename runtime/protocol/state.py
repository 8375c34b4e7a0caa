"""State message: the retained figures of a sender, with every decision of its link control; also its last will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import cbor2

from edgesem.packet.packet import MAX_SIDE
from runtime.protocol.command import LARGEST_FRAME_BYTES, MAX_RATE_BPS, MIN_FRAME_BYTES
from runtime.protocol.fields import Fields

MAX_STATE_BYTES = 512
LIVE = ("idle", "watched")
"""What a sender on demand does: thumbnails only, or pictures, because somebody watches."""
USUAL_INTERVAL_S = 10.0
"""Of a state that says none."""
USUAL_FRAME_BYTES = 30_000
"""Size limit of ordinary frames where nobody asks for another, and of a state that says none."""
MAX_WATCH_BYTES = 160
"""What a state says of the things that are looked for, in UTF-8."""
_MOST = 2**53  # what a double, and so every dashboard, still counts exactly
_LONGEST_S = 86400


class DataUsage(NamedTuple):
    """A data budget at one moment, by bytes on the wire."""

    spent_bytes: int
    left_bytes: int
    forecast_bytes: int
    """What the period will have cost at its end, as it goes."""


@dataclass(frozen=True)
class State:
    """State of a sender at one moment; counters are since its start."""

    up: bool
    """False in its last will, and in the last state of one that was closed."""
    epoch: int
    """Number of this start of the sender."""
    time_ms: int
    """Unix milliseconds."""
    capacity_bps: int | None = None
    """Measured rate of the link; None before the first acknowledgement."""
    rtt_s: float | None = None
    """The smallest round trip seen."""
    window_bytes: int = 0
    """The most that may be in flight."""
    budget_bytes: int = 0
    """Of the newest frame."""
    sent_bytes: int = 0
    """Of all messages."""
    frames: int = 0
    """Encoded."""
    skipped: int = 0
    """Frames left out, because the link had no room or only for less than the least quality."""
    dropped_layers: int = 0
    """Not sent, because a newer frame was there."""
    age_s: float | None = None
    """Since the capture of the newest frame that a receiver has."""
    promised_waiting: int = 0
    """Promised frames that no receiver keeps yet."""
    promised_refused: int = 0
    """Promised frames that the disk had no room for."""
    reconnects: int = 0
    """Connections after the first."""
    paused: bool = False
    """By a command, or by its schedule."""
    promised_rejected: int = 0
    """Promised frames that nobody takes, put aside after many tries."""
    promised_lost: int = 0
    """Promised frames that were on the disk and are no more: it was damaged, or cut short."""
    refused: int = 0
    """Messages that the broker has refused."""
    masked: bool = False
    """Whether a privacy mask is on."""
    grey: bool = False
    """Whether the pictures have no colour: what is drawn with some is not true."""
    left_out: int = 0
    """Items of its source that could not be read: pictures of a folder, frames of a video or camera."""
    shrunk_percent: int = 100
    """Sides of the newest picture, in percent of what was captured: less where the link bears too few bytes for all."""
    interval_s: float = USUAL_INTERVAL_S
    """The next state comes in so many seconds at the latest, rounded to whole ones."""

    events: int = 0
    """Events since the start."""
    live: str = ""
    """Of a sender that sends pictures on demand: idle (thumbnails only) or watched; empty of any other."""
    detail: tuple[int, int] | None = None
    """Width and height of the pictures from which details may be asked for; None: they are not kept."""

    data: DataUsage | None = None
    """What the longest period with a data budget has cost; None without one."""
    makes_events: bool = False
    """Whether it can make events."""
    watch: str | None = None
    """What it looks for, as `watch_text` has it; None: it cannot look for anything."""
    max_bytes: int = USUAL_FRAME_BYTES
    """The most that an ordinary frame may have now."""
    max_rate_bps: int = 0
    """The most bits a second of ordinary frames; 0: as many as the link bears."""
    denoised: bool = False
    """Whether ordinary frames are averaged over time where nothing changes."""
    silent_s: int = 0
    """For so many seconds its camera has given no picture, where that is too long; 0: it gives some."""

    def to_bytes(self) -> bytes:
        """The state as it is published; what is not the case costs nothing."""
        optional: dict[str, Any] = {"h": self.masked, "i": self.grey, "j": self.left_out}
        optional["v"] = self.shrunk_percent if self.shrunk_percent < 100 else 0
        interval_s = round(min(max(self.interval_s, 1), _LONGEST_S))
        optional["o"] = interval_s if interval_s != USUAL_INTERVAL_S else 0
        if self.live:
            optional["L"] = 1 + LIVE.index(self.live)
        if self.detail is not None:
            optional["D"] = list(self.detail)
        if self.data is not None:
            optional["k"] = [self.data.spent_bytes, self.data.left_bytes, self.data.forecast_bytes]
        optional["B"] = self.max_bytes if self.max_bytes != USUAL_FRAME_BYTES else 0
        optional["R"] = self.max_rate_bps
        optional["N"] = self.denoised
        optional["S"] = self.silent_s
        known: dict[str, Any] = {"E": self.events} if self.events or self.makes_events else {}
        if self.watch is not None:
            known["W"] = self.watch
        return cbor2.dumps(
            {
                "u": self.up,
                "e": self.epoch,
                "t": self.time_ms,
                "c": self.capacity_bps,
                "r": _ms(self.rtt_s),
                "w": self.window_bytes,
                "b": self.budget_bytes,
                "y": self.sent_bytes,
                "f": self.frames,
                "s": self.skipped,
                "d": self.dropped_layers,
                "a": _ms(self.age_s),
                "p": self.promised_waiting,
                "l": self.promised_refused,
                "n": self.reconnects,
                "q": self.paused,
                "g": self.promised_rejected,
                "m": self.promised_lost,
                "x": self.refused,
                **{key: value for key, value in optional.items() if value},
                **known,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The state that stands in `data`; PacketError for anything else, whatever the bytes are."""
        fields = Fields(data, what="state", limit_bytes=MAX_STATE_BYTES)
        makes_events = "E" in fields
        return cls(
            up=fields.flag("u"),
            epoch=fields.integer("e", 0xFFFF),
            time_ms=fields.integer("t", _MOST),
            capacity_bps=fields.maybe_integer("c", _MOST),
            rtt_s=_seconds(fields.maybe_integer("r", _MOST)),
            window_bytes=fields.integer("w", _MOST),
            budget_bytes=fields.integer("b", _MOST),
            sent_bytes=fields.integer("y", _MOST),
            frames=fields.integer("f", _MOST),
            skipped=fields.integer("s", _MOST),
            dropped_layers=fields.integer("d", _MOST),
            age_s=_seconds(fields.maybe_integer("a", _MOST)),
            promised_waiting=fields.integer("p", _MOST),
            promised_refused=fields.integer("l", _MOST),
            reconnects=fields.integer("n", _MOST),
            paused=fields.flag("q"),
            promised_rejected=fields.integer("g", _MOST) if "g" in fields else 0,
            promised_lost=fields.integer("m", _MOST) if "m" in fields else 0,
            refused=fields.integer("x", _MOST) if "x" in fields else 0,
            masked=fields.flag("h") if "h" in fields else False,
            grey=fields.flag("i") if "i" in fields else False,
            left_out=fields.integer("j", _MOST) if "j" in fields else 0,
            shrunk_percent=fields.integer("v", 100, 1) if "v" in fields else 100,
            interval_s=float(fields.integer("o", _LONGEST_S, 1)) if "o" in fields else USUAL_INTERVAL_S,
            events=fields.integer("E", _MOST) if makes_events else 0,
            makes_events=makes_events,
            watch=fields.text("W", MAX_WATCH_BYTES) if "W" in fields else None,
            max_bytes=fields.integer("B", LARGEST_FRAME_BYTES, MIN_FRAME_BYTES) if "B" in fields else USUAL_FRAME_BYTES,
            max_rate_bps=fields.integer("R", MAX_RATE_BPS) if "R" in fields else 0,
            denoised="N" in fields and fields.flag("N"),
            silent_s=fields.integer("S", _LONGEST_S) if "S" in fields else 0,
            live=LIVE[fields.integer("L", len(LIVE), 1) - 1] if "L" in fields else "",
            detail=_size(fields) if "D" in fields else None,
            data=DataUsage(*fields.integers("k", _MOST, 3)) if "k" in fields else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it by name, for JSON; `silent_s` only where a camera is silent."""
        known = {**asdict(self), "data": None if self.data is None else self.data._asdict()}
        return known if self.silent_s else {name: value for name, value in known.items() if name != "silent_s"}


def watch_text(queries: Sequence[str]) -> str:
    """The queries that a sender looks for in one text, joined by `; `; what is too long for a state ends in `...`."""
    text = "; ".join(query for query in queries if query.isprintable())
    raw = text.encode()
    if len(raw) <= MAX_WATCH_BYTES:
        return text
    return raw[: MAX_WATCH_BYTES - 3].decode(errors="ignore") + "..."


def _size(fields: Fields) -> tuple[int, int]:
    width, height = fields.integers("D", MAX_SIDE, 2)
    return width, height


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, round(seconds * 1000))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

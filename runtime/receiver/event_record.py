"""Event record of a receiver: what is known of one event, and the names of its files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgesem.errors import InputError
from runtime.protocol.topics import Topics, stream_folder

EVENTS = "events"
"""Folder of the events below that of the pictures."""
BEGUN, COMPLETE = "begun", "complete"
CLIP_TYPES = {".mp4": "video/mp4", ".webp": "image/webp"}
"""Media type of a clip by its suffix."""
MAX_RECORD_BYTES = 4096
NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}")
_ID = re.compile(r"[0-9a-f]{8}")
_TEXTS = {"id": 8, "stream": 200, "name": 40, "cause": 16, "label": 100, "phase": 8, "clip": 8}


@dataclass(frozen=True)
class EventRecord:
    """One event, as it stands in its JSON file."""

    id: str
    """8 hexadecimal digits, drawn by its sender."""
    stream: str
    """`site/device/stream`."""
    name: str
    """Of its files, without suffix: when it began (UTC), and its id."""
    time_ms: int
    """When it began: Unix milliseconds, as far as sender's and receiver's clocks agree."""
    cause: str
    label: str
    phase: str = BEGUN
    """begun: frames may still come. complete: there is a clip of all, or of those that came."""
    frames: int = 0
    missing: int = 0
    """Frames that have not come."""
    first_s: float = 0.0
    """Capture of its first frame, in seconds from its beginning; less than 0 for one from before."""
    last_s: float = 0.0
    clip: str = ""
    """Suffix of its clip, a key of `CLIP_TYPES`; empty while there is none."""
    sheet: bool = False
    """Whether there is a contact sheet."""

    @property
    def topics(self) -> Topics:
        """The topics of its stream."""
        return Topics.named(self.stream)

    def folder(self, events: Path) -> Path:
        """Folder of its files."""
        return stream_folder(events, self.topics)

    def picture_file(self, events: Path) -> Path:
        """The picture nearest to its beginning."""
        return self.folder(events) / f"{self.name}.jpg"

    def sheet_file(self, events: Path) -> Path:
        """Its contact sheet."""
        return self.folder(events) / f"{self.name}-sheet.jpg"

    def clip_file(self, events: Path) -> Path | None:
        """Its clip, if there is one."""
        return self.folder(events) / f"{self.name}{self.clip}" if self.clip else None

    def record_file(self, events: Path) -> Path:
        """This record."""
        return self.folder(events) / f"{self.name}.json"

    def frames_folder(self, events: Path) -> Path:
        """Its frames, until the clip is made of all of them."""
        return self.folder(events) / f"{self.name}.frames"

    def links(self) -> dict[str, Any]:
        """Where the receiver's page has picture, clip and contact sheet, relative to it; None for what is not there."""
        base = f"{EVENTS}/{'/'.join(quote(part, safe='') for part in self.stream.split('/'))}/{self.id}"
        return {
            "picture": f"{base}.jpg",
            "clip": f"{base}{self.clip}" if self.clip else None,
            "clip_type": CLIP_TYPES.get(self.clip),
            "sheet": f"{base}-sheet.jpg" if self.sheet else None,
        }

    def shown(self) -> dict[str, Any]:
        """The event as messages and the page's list have it."""
        own = asdict(self)
        for name in ("name", "clip", "sheet"):
            del own[name]
        return {**own, **self.links()}

    def to_bytes(self) -> bytes:
        """The record as its file has it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, path: Path) -> EventRecord:
        """The record in a file. InputError if it is none: a disk may have damaged it, or somebody have changed it."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_RECORD_BYTES + 1)
            tree: Any = json.loads(data) if len(data) <= MAX_RECORD_BYTES else None
            known = {field.name for field in fields(cls)}
            record = cls(**{key: value for key, value in tree.items() if key in known})
            record._check()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is no record of an event: {type(error).__name__}") from error
        return record

    def _check(self) -> None:
        """ValueError for what cannot be."""
        for name, most in _TEXTS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > most or not (value.isprintable() or not value):
                raise ValueError(name)
        numbers = (self.time_ms, self.frames, self.missing)
        if not all(type(one) is int and 0 <= one < 2**53 for one in numbers) or type(self.sheet) is not bool:
            raise ValueError("numbers")
        if not all(isinstance(one, float | int) and abs(one) < 1e7 for one in (self.first_s, self.last_s)):
            raise ValueError("times")
        good = NAME.fullmatch(self.name) and self.name.endswith(self.id) and _ID.fullmatch(self.id)
        if not good or self.clip not in ("", *CLIP_TYPES) or self.phase not in (BEGUN, COMPLETE):
            raise ValueError("names")
        Topics.named(self.stream)

"""Side information: what a packet carries beside its layers, as type-length-value items.

    u8 length of the rest | for each item, kinds rising: u8 kind, u8 size, value

It stands before the chunk of the base layer and travels with that layer only: without it the other layers are of no
use. Items: 1 reference (the frame that an inter frame refers to, or the bundle's background picture that a keyframe
does, how it has moved since, and what is copied of it), 2 embedding (what the picture shows), 3 region (where it is
coded finer), 4 time (upper half of the capture time), 5 event (to which event a promised frame belongs), 6 detail
(which part of the picture a promised packet shows).

A packet of a later program may have items of other kinds. They say nothing that is needed to decode it: a reader skips
them, and writes them again as they came.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from edgesem.errors import PacketError
from edgesem.packet.detail_mark import DetailMark
from edgesem.packet.event_mark import EventMark

MAX_EMBEDDING_BYTES = 64
MAX_LAYERS = 4  # of a picture
MAX_LEVEL = 255  # of quality
MAX_POSITION = 255  # of a latent: 4096 pixels at stride 16

_REFERENCE, _EMBEDDING, _REGION, _TIME, _EVENT, _DETAIL = 1, 2, 3, 4, 5, 6
MAX_COPIES_BYTES = 248  # of a map of copies, beside nothing but its reference
MAX_MOTION_BYTES = 64
_MOTION = 0x80  # flag beside the number of layers: motion follows, its length before it
_BACKGROUND = 0x40  # flag there: the frame's number is that of a background picture of the bundle
_FLAGS_AT = 4  # byte of the value that has the number of layers and the flags
_MAX_BYTES = 256  # one byte says how long the rest is
_REFERENCE_FORM = struct.Struct("<IB")
_REGION_FORM = struct.Struct("<BBBBB")
_TIME_FORM = struct.Struct("<I")


@dataclass(frozen=True)
class Reference:
    """Name of the picture that an inter frame refers to: a frame of the same stream and epoch, and from how many of its
    layers it was decoded.

    copies: which positions stay as they are there (`edgesem.packet.copy_map`); empty: none. motion: where its positions
    have gone (`edgesem.packet.motion`), before anything is made of them; empty: nowhere.
    Raises PacketError for numbers that do not fit the format, as Region and SideInformation do.
    """

    frame: int
    layers: int
    copies: bytes = b""
    motion: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.frame <= 0xFFFFFFFF or not 1 <= self.layers <= MAX_LAYERS:
            raise PacketError(f"packet: a reference to {self.layers} layers of frame {self.frame} cannot be")
        if len(self.copies) > MAX_COPIES_BYTES:
            raise PacketError(f"packet: a copy map has {len(self.copies)} bytes, at most {MAX_COPIES_BYTES} fit")
        if len(self.motion) > MAX_MOTION_BYTES:
            raise PacketError(f"packet: motion has {len(self.motion)} bytes, at most {MAX_MOTION_BYTES} are allowed")

    @property
    def size_bytes(self) -> int:
        """What `to_bytes` will return, counted without building it."""
        return _REFERENCE_FORM.size + (len(self.motion) and 1 + len(self.motion)) + len(self.copies)

    @property
    def item_bytes(self) -> int:
        """What it takes in the side information."""
        return 2 + self.size_bytes

    def to_bytes(self) -> bytes:
        """The value of the item: the map is the rest of it."""
        if not self.motion:
            return _REFERENCE_FORM.pack(self.frame, self.layers) + self.copies
        head = _REFERENCE_FORM.pack(self.frame, self.layers | _MOTION)
        return head + bytes([len(self.motion)]) + self.motion + self.copies

    @classmethod
    def from_bytes(cls, value: bytes) -> Reference:
        """What stands in an item. PacketError for anything that is no reference."""
        frame, layers = _read(_REFERENCE_FORM, value[: _REFERENCE_FORM.size])
        rest = value[_REFERENCE_FORM.size :]
        if not layers & _MOTION:
            return cls(frame, layers, rest)
        end = 1 + rest[0] if rest else 0
        if not 2 <= end <= len(rest):
            raise PacketError("packet: a reference ends inside its motion")
        return cls(frame, layers & ~_MOTION, rest[end:], rest[1:end])


@dataclass(frozen=True)
class Region:
    """A rectangle of latent positions, ends included, that is coded finer than the rest.

    drop: by how many quality levels (of 255) the rest is coarser.
    """

    left: int
    top: int
    right: int
    bottom: int
    drop: int

    def __post_init__(self) -> None:
        inside = 0 <= self.left <= self.right <= MAX_POSITION and 0 <= self.top <= self.bottom <= MAX_POSITION
        if not inside or not 1 <= self.drop <= MAX_LEVEL:
            raise PacketError(
                f"packet: region {self.left},{self.top} to {self.right},{self.bottom} with drop {self.drop} cannot be"
            )


@dataclass(frozen=True)
class SideInformation:
    """The side information of a packet; each item is optional.

    embedding: as `edgesem.semantics.embedding.to_bytes` writes it, at most 64 bytes; empty for none. time_high: upper
    32 bits of the capture time in Unix milliseconds, of which the header has the lower ones; packets that may be read
    long after have it. event: of a promised frame that belongs to an event. detail: of a promised packet that is a part
    of a picture. unknown: kind and value of each item that is not known here.
    """

    reference: Reference | None = None
    embedding: bytes = b""
    region: Region | None = None
    time_high: int | None = None
    event: EventMark | None = None
    detail: DetailMark | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()
    background: Reference | None = None
    """In place of `reference`: its frame is the number of a background picture of the bundle (`Codec.backgrounds`)."""

    def __post_init__(self) -> None:
        if self.reference is not None and self.background is not None:
            raise PacketError("packet: it cannot refer to a frame and to a background picture")
        if self.time_high is not None and not 0 <= self.time_high <= 0xFFFFFFFF:
            raise PacketError(f"packet: the upper half of a time is {self.time_high}, must be 0 to 4294967295")
        kinds = [_DETAIL, *(kind for kind, _ in self.unknown), 256]
        if kinds != sorted(set(kinds)) or not all(1 <= len(value) <= 255 for _, value in self.unknown):
            raise PacketError("packet: items of side information that are not known here cannot be written")
        if self.size_bytes > _MAX_BYTES:
            raise PacketError(f"packet: side information of {self.size_bytes} bytes, at most {_MAX_BYTES} fit")
        if len(self.embedding) > MAX_EMBEDDING_BYTES:
            raise PacketError(
                f"packet: an embedding has {len(self.embedding)} bytes, at most {MAX_EMBEDDING_BYTES} fit"
            )

    @property
    def prediction(self) -> Reference | None:
        """What the picture is predicted from, if anything: an earlier frame, or a background picture."""
        return self.reference or self.background

    def predicted_from(self, reference: Reference) -> SideInformation:
        """The same with another `prediction` of the same kind."""
        if self.reference is None:
            return replace(self, background=reference)
        return replace(self, reference=reference)

    @property
    def size_bytes(self) -> int:
        """What `to_bytes` will return, counted without building it."""
        reference = 0 if self.prediction is None else self.prediction.item_bytes
        region = 0 if self.region is None else 2 + _REGION_FORM.size
        embedding = len(self.embedding) and 2 + len(self.embedding)
        time = 0 if self.time_high is None else 2 + _TIME_FORM.size
        event = 0 if self.event is None else 2 + self.event.size_bytes
        detail = 0 if self.detail is None else 2 + self.detail.size_bytes
        known = reference + embedding + region + time + event + detail
        items = known + sum(2 + len(value) for _, value in self.unknown)
        return items and 1 + items

    @property
    def room_bytes(self) -> int:
        """How many bytes more fit, such as those of a map of copies."""
        return _MAX_BYTES - max(1, self.size_bytes)

    def to_bytes(self) -> bytes:
        """The bytes that stand in a packet: none at all if there are no items."""
        parts = []
        if (reference := self.prediction) is not None:
            named = bytearray(reference.to_bytes())
            named[_FLAGS_AT] |= _BACKGROUND if self.background else 0
            parts.append((_REFERENCE, bytes(named)))
        if self.embedding:
            parts.append((_EMBEDDING, self.embedding))
        if (region := self.region) is not None:
            ends = (region.left, region.top, region.right, region.bottom)
            parts.append((_REGION, _REGION_FORM.pack(*ends, region.drop)))
        if self.time_high is not None:
            parts.append((_TIME, _TIME_FORM.pack(self.time_high)))
        if self.event is not None:
            parts.append((_EVENT, self.event.to_bytes()))
        if self.detail is not None:
            parts.append((_DETAIL, self.detail.to_bytes()))
        block = b"".join(bytes([kind, len(value)]) + value for kind, value in (*parts, *self.unknown))
        return block and bytes([len(block)]) + block

    @classmethod
    def from_bytes(cls, body: bytes | memoryview) -> tuple[SideInformation, int]:
        """The side information at the start of a packet's body, and how many bytes it took.

        Raises PacketError for anything that `to_bytes` does not write, whatever the bytes are. Items of unknown kinds
        are taken as they are.
        """
        if not body or body[0] == 0 or len(body) < 1 + body[0]:
            raise PacketError("packet: ends inside its side information")
        end = 1 + body[0]
        found: dict[int, bytes] = {}
        place = 1
        while place < end:
            kind, size = body[place], body[place + 1] if place + 1 < end else end
            value = bytes(body[place + 2 : place + 2 + size])
            place += 2 + size
            if place > end or size == 0:
                raise PacketError("packet: an item of side information is longer than all of it")
            if kind <= max(found, default=0):
                raise PacketError(f"packet: side information of kind {kind} stands in the wrong place")
            found[kind] = value
        named = bytearray(found.get(_REFERENCE, b""))
        of_bundle = len(named) > _FLAGS_AT and bool(named[_FLAGS_AT] & _BACKGROUND)
        if of_bundle:
            named[_FLAGS_AT] ^= _BACKGROUND
        prediction = Reference.from_bytes(bytes(named)) if named else None
        return cls(
            reference=None if of_bundle else prediction,
            background=prediction if of_bundle else None,
            embedding=found.get(_EMBEDDING, b""),
            region=Region(*_read(_REGION_FORM, found[_REGION])) if _REGION in found else None,
            time_high=_read(_TIME_FORM, found[_TIME])[0] if _TIME in found else None,
            event=EventMark.from_bytes(found[_EVENT]) if _EVENT in found else None,
            detail=DetailMark.from_bytes(found[_DETAIL]) if _DETAIL in found else None,
            unknown=tuple((kind, value) for kind, value in found.items() if kind > _DETAIL),
        ), end


NO_SIDE_INFO = SideInformation()


def _read(form: struct.Struct, value: bytes) -> tuple[int, ...]:
    if len(value) != form.size:
        raise PacketError(f"packet: an item of side information has {len(value)} bytes, not {form.size}")
    return form.unpack(value)

"""Reads a plain packet: header, side information and chunks (protocol.md, sections 2 and 4 to 6)."""

from __future__ import annotations

import struct
import unicodedata
import zlib
from dataclasses import dataclass

from tests.independent.motion import Motion, read_motion
from tests.independent.refusal import RefusedError

MAGIC = 0xE5
VERSION = 1
SEALED, PROMISED, SIDE, RESERVED_FLAG = 1, 2, 4, 8
HEADER_BYTES = 24
MOST_BYTES = 262_144
MOST_CHUNK_BYTES = 65_535
MOST_SIDE = 4096
DEFAULT_PIXELS = 1920 * 1088
TOPIC_ROOT = "edgesem/v1/"
FIELDS = struct.Struct("<BBHHIIHHBBI")

REFERENCE, EMBEDDING, REGION, TIME, EVENT, DETAIL = 1, 2, 3, 4, 5, 6
PLACE = struct.Struct("<HHHHI")
MARK = struct.Struct("<IHiB")


@dataclass(frozen=True)
class Header:
    """The 24 bytes at the start of a packet."""

    flags: int
    bundle_id: int
    epoch: int
    frame: int
    time_ms: int
    width: int
    height: int
    q: int
    first_layer: int
    carried_layers: int
    total_layers: int
    crc32: int

    @property
    def sealed(self) -> bool:
        return bool(self.flags & SEALED)

    @property
    def promised(self) -> bool:
        return bool(self.flags & PROMISED)

    @property
    def side_information(self) -> bool:
        return bool(self.flags & SIDE)


@dataclass(frozen=True)
class Reference:
    """The frame that an inter frame refers to, from how many of its layers, and the bytes of copy map and motion."""

    frame: int
    layers: int
    copies: bytes = b""
    motion: bytes = b""
    of_bundle: bool = False
    """Whether `frame` is the number of a background picture of the bundle."""


@dataclass(frozen=True)
class Region:
    """A region of interest in positions of the latent, ends included."""

    left: int
    top: int
    right: int
    bottom: int
    drop: int


@dataclass(frozen=True)
class Event:
    """Item of kind 5; `kind` is the number of its cause."""

    event: int
    place: int
    since_ms: int
    kind: int
    last: bool
    label: str


@dataclass(frozen=True)
class Detail:
    """Item of kind 6: the edges of the part in 65535ths of the picture, and which request it answers."""

    left: int
    top: int
    right: int
    bottom: int
    request: int


@dataclass(frozen=True)
class SideInformation:
    """What a packet says beside its layers. `size_bytes` counts the length byte too, 0 if there is none."""

    reference: Reference | None = None
    embedding: bytes | None = None
    region: Region | None = None
    time_high: int | None = None
    event: Event | None = None
    detail: Detail | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class Packet:
    """A plain packet, taken apart."""

    header: Header
    side: SideInformation
    chunks: tuple[bytes, ...]


def checksum(data: bytes) -> int:
    """CRC-32 of everything but the checksum itself."""
    return zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[:20]))


def read_header(data: bytes) -> Header:
    """Read and check what the first 24 bytes can tell alone. The checksum is not compared here."""
    if len(data) < HEADER_BYTES:
        raise RefusedError("short", f"{len(data)} bytes")
    magic, second, bundle, epoch, frame, time, width, height, q, layers, crc = FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise RefusedError("magic", f"{magic:#04x}")
    if second >> 4 != VERSION:
        raise RefusedError("version", str(second >> 4))
    if second & RESERVED_FLAG or layers & 0xC0:
        raise RefusedError("reserved bits")
    if not 1 <= width <= MOST_SIDE or not 1 <= height <= MOST_SIDE:
        raise RefusedError("size", f"{width}x{height}")
    first, carried, total = layers & 3, (layers >> 2 & 3) + 1, (layers >> 4 & 3) + 1
    if first + carried > total:
        raise RefusedError("layers", f"{first} + {carried} of {total}")
    flags = second & 0x0F
    if flags & PROMISED and first > 0:
        raise RefusedError("promised", f"first layer {first}")
    return Header(flags, bundle, epoch, frame, time, width, height, q, first, carried, total, crc)


def read_items(block: bytes) -> dict[int, bytes]:
    """Split the block after its length byte into items by kind."""
    items: dict[int, bytes] = {}
    place, last = 0, 0
    while place < len(block):
        if place + 2 > len(block):
            raise RefusedError("side information", "half an item")
        kind, size = block[place], block[place + 1]
        if kind <= last:
            raise RefusedError("side information", f"kind {kind} after {last}")
        if size == 0 or place + 2 + size > len(block):
            raise RefusedError("side information", f"size {size} of kind {kind}")
        items[kind] = block[place + 2 : place + 2 + size]
        place, last = place + 2 + size, kind
    return items


def read_side_information(body: bytes) -> SideInformation:
    """Read the block at the start of the body."""
    if not body or body[0] == 0 or 1 + body[0] > len(body):
        raise RefusedError("side information", "no block")
    items = read_items(body[1 : 1 + body[0]])
    reference, region = None, None
    if (data := items.get(REFERENCE)) is not None:
        if not 5 <= len(data) <= 253 or not 1 <= data[4] & 63 <= 4:
            raise RefusedError("side information", "reference")
        motion, copies = b"", data[5:]
        if data[4] & 128:
            if len(data) < 7 or data[5] == 0 or 6 + data[5] > len(data):
                raise RefusedError("side information", "no motion")
            motion, copies = data[6 : 6 + data[5]], data[6 + data[5] :]
        number, of_bundle = int.from_bytes(data[:4], "little"), bool(data[4] & 64)
        reference = Reference(number, data[4] & 63, copies, motion, of_bundle)
    embedding = items.get(EMBEDDING)
    if embedding is not None and len(embedding) > 64:
        raise RefusedError("side information", "embedding")
    if (data := items.get(REGION)) is not None:
        if len(data) != 5:
            raise RefusedError("side information", "region")
        region = Region(*data)
        if region.left > region.right or region.top > region.bottom or region.drop == 0:
            raise RefusedError("side information", "region")
    time = items.get(TIME)
    if time is not None and len(time) != 4:
        raise RefusedError("side information", "time")
    time_high = None if time is None else int.from_bytes(time, "little")
    event = read_event(items[EVENT]) if EVENT in items else None
    detail = read_detail(items[DETAIL]) if DETAIL in items else None
    return SideInformation(reference, embedding, region, time_high, event, detail, 1 + body[0])


def read_detail(data: bytes) -> Detail:
    """Which part of the picture the packet shows."""
    if len(data) != PLACE.size:
        raise RefusedError("side information", "detail")
    detail = Detail(*PLACE.unpack(data))
    if detail.left >= detail.right or detail.top >= detail.bottom:
        raise RefusedError("side information", "detail")
    return detail


def read_event(data: bytes) -> Event:
    """The event to which a promised frame belongs."""
    if not 11 <= len(data) <= 111:
        raise RefusedError("side information", "event")
    event, place, since_ms, last_byte = MARK.unpack_from(data)
    try:
        label = data[11:].decode()
    except UnicodeDecodeError as error:
        raise RefusedError("side information", "label") from error
    if event == 0 or not printable(label):
        raise RefusedError("side information", "event")
    return Event(event, place, since_ms, last_byte & 127, bool(last_byte & 128), label)


def read_copy_map(data: bytes, h: int, w: int) -> list[list[bool]]:
    """Which positions are copied, row by row."""
    bits = [byte >> (7 - place) & 1 for byte in data for place in range(8)]
    order, rest = 4 * bits[1] + 2 * bits[2] + bits[3], bits[4:]
    wrong: set[int] = set()
    position = -1
    while 1 in rest:
        zeros = rest.index(1)
        code = rest[zeros : 2 * zeros + order + 1]
        if zeros > 17 or len(code) < zeros + order + 1:
            raise RefusedError("side information", "a copy map ends inside a code")
        position += sum(bit << place for place, bit in enumerate(reversed(code))) - (1 << order) + 1
        if position >= h * w:
            raise RefusedError("side information", "a copy map beyond the picture")
        wrong.add(position)
        rest = rest[2 * zeros + order + 1 :]
    if len(rest) >= 8:
        raise RefusedError("side information", "a copy map with more behind it")
    coded: dict[tuple[int, int], bool] = {}
    for row in range(h):
        for column in range(w):
            above = coded.get((row - 1, column), False)
            if bits[0]:
                above ^= coded.get((row, column - 1), False) ^ coded.get((row - 1, column - 1), False)
            coded[row, column] = above ^ (row * w + column in wrong)
    return [[not coded[row, column] for column in range(w)] for row in range(h)]


def copied_of(side: SideInformation, width: int, height: int) -> list[list[bool]] | None:
    """The copy map of a packet, None if it has none."""
    if side.reference is None or not side.reference.copies:
        return None
    return read_copy_map(side.reference.copies, -(-height // 16), -(-width // 16))


def motion_of(side: SideInformation, width: int, height: int) -> Motion | None:
    """Where the positions of a packet's reference have gone, None if it does not say that they have."""
    if side.reference is None or not side.reference.motion:
        return None
    return read_motion(side.reference.motion, -(-height // 16), -(-width // 16))


def read_chunks(body: bytes, count: int) -> tuple[bytes, ...]:
    """Split what follows the side information. Every chunk but the last has its length before it."""
    chunks, place = [], 0
    for _ in range(count - 1):
        if place + 2 > len(body):
            raise RefusedError("chunks", "no length")
        size = int.from_bytes(body[place : place + 2], "little")
        if place + 2 + size > len(body):
            raise RefusedError("chunks", f"{size} bytes are not there")
        chunks.append(body[place + 2 : place + 2 + size])
        place += 2 + size
    if len(body) - place > MOST_CHUNK_BYTES:
        raise RefusedError("chunks", "the last one is too long")
    chunks.append(body[place:])
    return tuple(chunks)


def read_packet(data: bytes, bundle_id: int | None = None, most_pixels: int = DEFAULT_PIXELS) -> Packet:
    """Read a plain packet. With `bundle_id`, ordinary packets of other bundles are refused."""
    if len(data) > MOST_BYTES:
        raise RefusedError("long", f"{len(data)} bytes")
    header = read_header(data)
    if header.sealed:
        raise RefusedError("sealed", "no key")
    if checksum(data) != header.crc32:
        raise RefusedError("checksum")
    if header.width * header.height > most_pixels:
        raise RefusedError("pixels")
    if bundle_id is not None and header.bundle_id != bundle_id and not header.promised:
        raise RefusedError("bundle", str(header.bundle_id))
    body, side = data[HEADER_BYTES:], SideInformation()
    if header.side_information:
        if header.first_layer > 0:
            raise RefusedError("side information", "without the base layer")
        side = read_side_information(body)
        copied_of(side, header.width, header.height)
        motion_of(side, header.width, header.height)
        body = body[side.size_bytes :]
    return Packet(header, side, read_chunks(body, header.carried_layers))


def embedding_numbers(data: bytes) -> list[int] | None:
    """The 128 numbers of an embedding, or None if it cannot be used."""
    if len(data) != 64:
        return None
    halves = [half for byte in data for half in (byte & 15, byte >> 4)]
    numbers = [half - 16 if half > 7 else half for half in halves]
    return None if -8 in numbers or not any(numbers) else numbers


def printable(text: str) -> bool:
    """None of the general categories C and Z of Unicode, but the space."""
    return all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in text)


def split_topic(topic: str) -> tuple[str, str]:
    """The base of the stream, and what stands behind it."""
    parts = topic.removeprefix(TOPIC_ROOT).split("/")
    if not topic.startswith(TOPIC_ROOT) or len(parts) < 4:
        raise RefusedError("topic", topic)
    for name in parts[:3]:
        if not 1 <= len(name) <= 64 or not printable(name) or any(sign in name for sign in "+#"):
            raise RefusedError("topic", topic)
    return TOPIC_ROOT + "/".join(parts[:3]), "/".join(parts[3:])


def check_topic(topic: str, header: Header) -> str:
    """Refuse a packet on a topic that does not end with its first layer. Returns the base."""
    base, rest = split_topic(topic)
    if rest != f"pkt/{header.first_layer}":
        raise RefusedError("topic", topic)
    return base

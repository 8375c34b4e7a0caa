"""Packet: one coded picture, or some of its layers, as bytes; in a file and in an MQTT message alike.

A packet is a 24-byte little-endian header and a body:

    u8 magic 0xE5 | u8 version (high nibble), flags (low nibble) | u16 bundle | u16 epoch | u32 frame | u32 time_ms
    u16 width | u16 height | u8 q | u8 layers | u32 crc32 of everything else

Flags: bit 0 SEALED, the body is ciphertext (see `edgesem.packet.seal`); bit 1 PROMISED, the sender keeps the picture
until a receiver has acknowledged it; bit 2 SIDE_INFO, the body starts with side information (see
`edgesem.packet.side_information`); bit 3 is zero. `layers` holds the first layer carried in bits 0-1, the count carried
less one in bits 2-3, the total less one in bits 4-5, and zeros. The body is the chunk of each carried layer; each but
the last is preceded by its u16 length, and the last takes the rest, so a message with one layer has no length in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgesem.errors import ChecksumError, PacketError
from edgesem.packet.side_information import MAX_LAYERS as MAX_LAYERS
from edgesem.packet.side_information import MAX_LEVEL, NO_SIDE_INFO, SideInformation

if TYPE_CHECKING:
    from edgesem.packet.copy_map import Mask
    from edgesem.packet.motion import Field

MAGIC = 0xE5
VERSION = 1
HEADER_BYTES = 24
MAX_CHUNK_BYTES = 65535
MAX_PACKET_BYTES = 256 * 1024
MAX_SIDE = 4096
POSITION_PIXELS = 16  # a side of what a position of the latent stands for
SEALED = 1
PROMISED = 2
SIDE_INFO = 4
FLAGS = 0x0F  # where flags stand in the second byte

_HEADER = struct.Struct("<BBHHIIHHBB")  # the checksum follows
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")


@dataclass(frozen=True)
class Packet:
    """Layers `first_layer` to `first_layer + len(chunks) - 1` of a picture that has `total_layers`, with its header.

    Raises PacketError if a field does not fit the format, so every Packet can be written.
    """

    bundle_id: int
    epoch: int
    frame: int
    time_ms: int
    """Capture time in Unix milliseconds, modulo 2^32."""
    width: int
    height: int
    q: int
    """Quality level, 0 to 255."""
    total_layers: int
    first_layer: int
    chunks: tuple[bytes, ...]
    promised: bool = False
    """Kept by its sender until a receiver has acknowledged it; all its layers travel in one message."""
    side_info: SideInformation = NO_SIDE_INFO
    """Only where the base layer is carried."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("bundle_id", self.bundle_id, 0, 0xFFFF),
            ("epoch", self.epoch, 0, 0xFFFF),
            ("frame", self.frame, 0, 0xFFFFFFFF),
            ("time_ms", self.time_ms, 0, 0xFFFFFFFF),
            ("width", self.width, 1, MAX_SIDE),
            ("height", self.height, 1, MAX_SIDE),
            ("q", self.q, 0, MAX_LEVEL),
            ("total_layers", self.total_layers, 1, MAX_LAYERS),
            ("first_layer", self.first_layer, 0, self.total_layers - 1),
            ("the number of chunks", len(self.chunks), 1, self.total_layers - self.first_layer),
        ):
            if not low <= value <= high:
                raise PacketError(f"packet: {name} is {value}, must be {low} to {high}")
        if self.first_layer and self.side_info != NO_SIDE_INFO:
            raise PacketError(f"packet: side information needs the base layer, this starts at layer {self.first_layer}")
        _ = self.copied, self.motion
        for layer, chunk in enumerate(self.chunks, self.first_layer):
            if len(chunk) > MAX_CHUNK_BYTES:
                raise PacketError(f"packet: layer {layer} has {len(chunk)} bytes, at most {MAX_CHUNK_BYTES} fit")
        if self.size_bytes > MAX_PACKET_BYTES:
            raise PacketError(f"packet: {self.size_bytes} bytes, at most {MAX_PACKET_BYTES} are allowed")

    @property
    def size_bytes(self) -> int:
        """What `to_bytes` will return, counted without building it."""
        lengths = _U16.size * (len(self.chunks) - 1)
        return HEADER_BYTES + self.side_info.size_bytes + sum(map(len, self.chunks)) + lengths

    @property
    def copied(self) -> Mask | None:
        """The positions that stay as the reference has them, bool [h, w]; None where the packet has no map of them."""
        reference = self.side_info.prediction
        if reference is None or not reference.copies:
            return None
        from edgesem.packet import copy_map

        return copy_map.from_bytes(reference.copies, *self._positions)

    @property
    def motion(self) -> Field | None:
        """Where the reference's positions have gone, by block; None where the packet does not say that they have."""
        reference = self.side_info.prediction
        if reference is None or not reference.motion:
            return None
        from edgesem.packet import motion

        return motion.from_bytes(reference.motion, *self._positions)

    @property
    def _positions(self) -> tuple[int, int]:
        """Rows and columns of the latent."""
        return -(-self.height // POSITION_PIXELS), -(-self.width // POSITION_PIXELS)

    @property
    def wire_bytes(self) -> int:
        """What all messages of `split` have together."""
        return HEADER_BYTES * len(self.chunks) + self.side_info.size_bytes + sum(map(len, self.chunks))

    def to_bytes(self) -> bytes:
        """The packet as it stands in a file or in a message."""
        side_info = self.side_info.to_bytes()
        head = _HEADER.pack(
            MAGIC,
            VERSION << 4 | (PROMISED if self.promised else 0) | (SIDE_INFO if side_info else 0),
            self.bundle_id,
            self.epoch,
            self.frame,
            self.time_ms,
            self.width,
            self.height,
            self.q,
            self.first_layer | (len(self.chunks) - 1) << 2 | (self.total_layers - 1) << 4,
        )
        *inner, last = self.chunks
        body = b"".join([side_info, *(_U16.pack(len(chunk)) + chunk for chunk in inner), last])
        return head + _U32.pack(_checksum(head, body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Packet:
        """The packet that stands in `data`.

        Raises PacketError or ChecksumError for anything else, whatever the bytes are: they come from outside. Every
        bound is checked before anything is copied, so no more memory is used than `data` has.
        """
        if not HEADER_BYTES <= len(data) <= MAX_PACKET_BYTES:
            raise PacketError(f"not a packet: {len(data)} bytes, must be {HEADER_BYTES} to {MAX_PACKET_BYTES}")
        head = data[: _HEADER.size]
        magic, version_flags, bundle_id, epoch, frame, time_ms, width, height, q, layers = _HEADER.unpack(head)
        if magic != MAGIC:
            raise PacketError(f"not a packet: the first byte is 0x{magic:02x}, not 0x{MAGIC:02x}")
        if version_flags >> 4 != VERSION:
            raise PacketError(f"packet version {version_flags >> 4} is not known here, only {VERSION}: update edgesem")
        if version_flags & SEALED:
            raise PacketError("the packet is sealed: give the receiver its stream's key")
        if version_flags & FLAGS & ~(PROMISED | SIDE_INFO):
            raise PacketError(f"packet flags 0x{version_flags & FLAGS:x} are not known here: update edgesem")
        body = memoryview(data)[HEADER_BYTES:]
        if _U32.unpack_from(data, _HEADER.size)[0] != _checksum(head, body):
            raise ChecksumError("the packet's checksum does not match: it was damaged or cut short; fetch it again")
        if layers >> 6:
            raise PacketError(f"packet: layer byte 0x{layers:02x} has unknown bits")
        side_info, end = SideInformation.from_bytes(body) if version_flags & SIDE_INFO else (NO_SIDE_INFO, 0)
        return cls(
            bundle_id=bundle_id,
            epoch=epoch,
            frame=frame,
            time_ms=time_ms,
            width=width,
            height=height,
            q=q,
            total_layers=(layers >> 4 & 3) + 1,
            first_layer=layers & 3,
            chunks=_cut(body[end:], count=(layers >> 2 & 3) + 1),
            promised=bool(version_flags & PROMISED),
            side_info=side_info,
        )

    def split(self) -> list[Packet]:
        """One packet a layer, the most important first: what goes out as messages."""
        return [
            replace(
                self,
                first_layer=layer,
                chunks=(chunk,),
                side_info=NO_SIDE_INFO if layer else self.side_info,
            )
            for layer, chunk in enumerate(self.chunks, self.first_layer)
        ]

    def prefix(self, layers: int) -> Packet:
        """The same picture from its first `layers` layers only.

        Raises PacketError if the packet does not carry them.
        """
        if self.first_layer != 0:
            raise PacketError(f"packet: starts at layer {self.first_layer}, the base layer 0 is missing")
        if not 1 <= layers <= len(self.chunks):
            raise PacketError(f"packet: {layers} layers asked for, it carries 1 to {len(self.chunks)}")
        return replace(self, chunks=self.chunks[:layers])

    @staticmethod
    def join(parts: Sequence[Packet]) -> Packet:
        """The longest run of layers from the base on that `parts` hold, in whatever order they came.

        A layer that came twice counts once. Raises PacketError if the base layer is missing, if the parts are not of
        one frame, or if they disagree.
        """
        if not parts:
            raise PacketError("packet: nothing to join")
        frame = replace(min(parts, key=lambda part: part.first_layer), first_layer=0, chunks=parts[0].chunks[:1])
        chunks: dict[int, bytes] = {}
        for part in parts:
            side_info = frame.side_info if part.first_layer else part.side_info
            if replace(part, first_layer=0, chunks=frame.chunks, side_info=side_info) != frame:
                raise PacketError(
                    f"packet: parts of different frames ({frame.frame} and {part.frame}) cannot be joined"
                )
            for layer, chunk in enumerate(part.chunks, part.first_layer):
                if chunks.setdefault(layer, chunk) != chunk:
                    raise PacketError(f"packet: two different chunks for layer {layer} of frame {frame.frame}")
        run = next(layer for layer in range(MAX_LAYERS + 1) if layer not in chunks)
        if run == 0:
            raise PacketError(f"packet: the base layer of frame {frame.frame} is missing")
        return replace(frame, chunks=tuple(chunks[layer] for layer in range(run)))


def _checksum(head: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(head))


def _cut(body: memoryview, count: int) -> tuple[bytes, ...]:
    """The `count` chunks of a body; PacketError if their lengths leave it."""
    chunks = []
    for _ in range(count - 1):
        if len(body) < _U16.size:
            raise PacketError("packet: ends inside the length of a layer")
        end = _U16.size + _U16.unpack_from(body)[0]
        if len(body) < end:
            raise PacketError("packet: a layer is longer than the packet")
        chunks.append(bytes(body[_U16.size : end]))
        body = body[end:]
    return (*chunks, bytes(body))

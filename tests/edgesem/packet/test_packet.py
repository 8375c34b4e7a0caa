"""Packet: bytes and fields, splitting and joining, and headers that are refused."""

import struct
import zlib
from dataclasses import replace

import pytest

from edgesem.errors import ChecksumError, PacketError
from edgesem.packet.packet import HEADER_BYTES, MAX_PACKET_BYTES, Packet
from edgesem.packet.side_information import Reference, Region, SideInformation

PACKET = Packet(
    bundle_id=0xBEEF,
    epoch=7,
    frame=123456,
    time_ms=0xFEDCBA98,
    width=768,
    height=512,
    q=143,
    total_layers=4,
    first_layer=0,
    chunks=(b"base layer", b"first", b"", b"last one"),
)

# What these packets look like on the wire. They must not change as long as the format's version is 1:
# an archive of .es files, and the other end of a link, depend on it.
GOLDEN = {
    "all layers": (
        PACKET,
        "e510efbe070040e2010098badcfe000300028f3ce7d0e3110a0062617365206c617965720500666972737400006c617374206f6e65",
    ),
    "middle layer": (
        replace(PACKET, first_layer=1, chunks=(b"first",)),
        "e510efbe070040e2010098badcfe000300028f31331d2bb36669727374",
    ),
    "side_info": (
        replace(PACKET, side_info=SideInformation(Reference(7, 2), b"meaning", Region(1, 2, 3, 4, 99))),
        "e514efbe070040e2010098badcfe000300028f3cd5e49ef8170105070000000202076d65616e696e67030501020304630a0062617365206c617965720500666972737400006c617374206f6e65",
    ),
    "smallest": (
        Packet(0, 0, 0, 0, 1, 1, 0, total_layers=1, first_layer=0, chunks=(b"",)),
        "e51000000000000000000000000001000100000069740800",
    ),
    "largest fields": (
        Packet(
            0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 4096, 4096, 255, total_layers=4, first_layer=3, chunks=(b"\xff",)
        ),
        "e510ffffffffffffffffffffffff00100010ff33ce73e6d0ff",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_packets_are_written_and_read_bit_for_bit(name):
    packet, wire = GOLDEN[name]
    assert packet.to_bytes().hex() == wire
    assert Packet.from_bytes(bytes.fromhex(wire)) == packet


@pytest.mark.parametrize("name", GOLDEN)
def test_the_size_is_known_without_writing(name):
    packet, wire = GOLDEN[name]
    assert packet.size_bytes == len(wire) // 2
    assert packet.wire_bytes == sum(len(part.to_bytes()) for part in packet.split())


@pytest.mark.parametrize("name", GOLDEN)
def test_a_changed_byte_anywhere_is_refused(name):
    data = bytes.fromhex(GOLDEN[name][1])
    for position in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            with pytest.raises(PacketError):
                Packet.from_bytes(bytes(damaged))


def test_a_cut_packet_is_refused():
    data = PACKET.to_bytes()
    for length in range(len(data)):
        with pytest.raises(PacketError):
            Packet.from_bytes(data[:length])
    with pytest.raises(ChecksumError):
        Packet.from_bytes(data + b"\0")


def test_a_message_of_one_layer_spends_a_header_and_nothing_more():
    for part, chunk in zip(PACKET.split(), PACKET.chunks, strict=True):
        assert part.size_bytes == HEADER_BYTES + len(chunk)


def test_layers_are_joined_in_any_order_up_to_the_first_gap():
    base, first, second, last = PACKET.split()
    assert Packet.join([last, base, second, first]) == PACKET
    assert Packet.join([base, last, first]) == PACKET.prefix(2)
    assert Packet.join([PACKET.prefix(2), first, second]) == PACKET.prefix(3)  # what came twice counts once


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "nothing"),
        (PACKET.split()[1:], "base layer"),
        ([PACKET.prefix(1), replace(PACKET.split()[1], frame=5)], "different frames"),
        ([PACKET.prefix(1), replace(PACKET.split()[1], total_layers=2)], "different frames"),
        ([PACKET.prefix(1), replace(PACKET.prefix(1), chunks=(b"other",))], "two different"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(parts, reason):
    with pytest.raises(PacketError, match=reason):
        Packet.join(parts)


def test_a_prefix_keeps_the_base():
    assert PACKET.prefix(4) == PACKET
    assert PACKET.prefix(2).chunks == PACKET.chunks[:2]
    for layers in (0, 5, -1):
        with pytest.raises(PacketError, match="carries 1 to 4"):
            PACKET.prefix(layers)
    with pytest.raises(PacketError, match="base layer"):
        PACKET.split()[1].prefix(1)


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_id": 0x10000},
        {"epoch": -1},
        {"frame": 1 << 32},
        {"time_ms": -1},
        {"width": 0},
        {"width": 4097},
        {"height": 0},
        {"height": 4097},
        {"q": 256},
        {"total_layers": 5},
        {"total_layers": 3},
        {"first_layer": 1},
        {"chunks": ()},
        {"chunks": (bytes(65536),)},
        {"chunks": (bytes(65535),) * 4},  # each fits, but not all of them
    ],
)
def test_what_cannot_be_written_cannot_be_made(change):
    with pytest.raises(PacketError):
        replace(PACKET, **change)


def _sealed(edit: bytes, position: int, body: bytes = b"base") -> bytes:
    """A packet whose header is wrong on purpose and whose checksum is right."""
    head = bytearray(Packet(1, 1, 1, 1, 64, 64, 1, 1, 0, (b"",)).to_bytes()[:20])
    head[position : position + len(edit)] = edit
    return bytes(head) + struct.pack("<I", zlib.crc32(bytes(head) + body)) + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_sealed(b"\xe4", 0), "first byte"),
        (_sealed(b"\x20", 1), "version 2"),
        (_sealed(b"\x11", 1), "is sealed"),
        (_sealed(b"\x18", 1), "flags"),
        (_sealed(b"\x14", 1), "inside its side information"),
        (_sealed(b"\x14", 1, body=b"\x03\x02\x02a"), "longer than all of it"),
        (_sealed(b"\x14", 1, body=b"\x03\x00\x01a"), "kind 0"),
        (_sealed(b"\x14", 1, body=b"\x03\x01\x01a"), "1 bytes, not 5"),
        (_sealed(b"\x00\x00", 14), "width"),
        (_sealed(b"\x01\x10", 16), "height"),
        (_sealed(b"\x40", 19), "unknown bits"),
        (_sealed(b"\x04", 19, body=b"\0\0"), "number of chunks"),  # two carried of one
        (_sealed(b"\x01", 19), "first_layer"),
        (_sealed(b"\x14", 19, body=b"\x03"), "ends inside"),
        (_sealed(b"\x14", 19, body=b"\x03\x00ab"), "longer than the packet"),
        (bytes(MAX_PACKET_BYTES + 1), "bytes, must be"),
        (b"", "bytes, must be"),
    ],
)
def test_a_wrong_header_with_a_right_checksum_says_what_is_wrong(data, reason):
    with pytest.raises(PacketError, match=reason):
        Packet.from_bytes(data)


def test_any_bytes_like_object_is_read():
    data = PACKET.to_bytes()
    assert Packet.from_bytes(bytearray(data)) == Packet.from_bytes(memoryview(data)) == PACKET

"""Whatever comes from outside gives a packet or a PacketError: never another exception, never much memory."""

import random
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_PACKET_BYTES, Packet
from edgesem.packet.side_information import Reference, Region, SideInformation


@st.composite
def side_info(draw: st.DrawFn) -> SideInformation:
    references = st.builds(Reference, st.integers(0, 0xFFFFFFFF), st.integers(1, 4))
    left, top = draw(st.integers(0, 255)), draw(st.integers(0, 255))
    right, bottom = draw(st.integers(left, 255)), draw(st.integers(top, 255))
    regions = st.builds(lambda drop: Region(left, top, right, bottom, drop), st.integers(1, 255))
    kind = draw(st.sampled_from(("reference", "background")))
    prediction = {kind: draw(st.none() | references)}
    return SideInformation(embedding=draw(st.binary(max_size=64)), region=draw(st.none() | regions), **prediction)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    total = draw(st.integers(1, 4))
    first = draw(st.integers(0, total - 1))
    count = draw(st.integers(1, total - first))
    return Packet(
        bundle_id=draw(st.integers(0, 0xFFFF)),
        epoch=draw(st.integers(0, 0xFFFF)),
        frame=draw(st.integers(0, 0xFFFFFFFF)),
        time_ms=draw(st.integers(0, 0xFFFFFFFF)),
        width=draw(st.integers(1, 4096)),
        height=draw(st.integers(1, 4096)),
        q=draw(st.integers(0, 255)),
        total_layers=total,
        first_layer=first,
        chunks=tuple(draw(st.binary(max_size=300)) for _ in range(count)),
        side_info=SideInformation() if first else draw(side_info()),
    )


def read(data: bytes) -> None:
    """Pass if `data` gives a packet that is written the same again, or a PacketError."""
    try:
        packet = Packet.from_bytes(data)
    except PacketError:
        return
    assert packet.to_bytes() == data
    assert packet.size_bytes == len(data)


def resealed(data: bytes) -> bytes:
    """`data` with the checksum it should have, so that the checks behind the checksum are reached."""
    return data[:20] + struct.pack("<I", zlib.crc32(data[:20] + data[24:])) + data[24:]


@given(packets())
def test_a_packet_comes_back_from_its_bytes(packet):
    data = packet.to_bytes()
    assert Packet.from_bytes(data) == packet
    assert packet.size_bytes == len(data)


@given(packets(), st.randoms())
def test_split_and_join_are_inverse(packet, order):
    parts = packet.split()
    assert packet.wire_bytes == sum(len(part.to_bytes()) for part in parts)
    order.shuffle(parts)
    if packet.first_layer == 0:
        assert Packet.join(parts) == packet
    else:
        with pytest.raises(PacketError):
            Packet.join(parts)


@given(st.binary(max_size=2000))
def test_random_bytes(data):
    read(data)
    read(b"\xe5\x10" + data)


@given(st.binary(min_size=18, max_size=2000))
def test_random_bytes_behind_a_right_checksum(data):
    read(resealed(b"\xe5\x10" + data[:18] + bytes(4) + data[18:]))


@given(packets(), st.data())
def test_truncations(packet, data):
    whole = packet.to_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(PacketError):
        Packet.from_bytes(cut)
    if len(cut) >= 24:
        read(resealed(cut))


@given(packets(), st.data())
def test_bit_flips(packet, data):
    whole = bytearray(packet.to_bytes())
    bits = data.draw(st.sets(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=3))
    for bit in bits:
        whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PacketError):  # CRC-32 sees up to three flips in anything as short as this
        Packet.from_bytes(bytes(whole))
    read(resealed(bytes(whole)))


_STORM = """
import resource, sys, tracemalloc
sys.path[:0] = sys.argv[1:]
from test_packet_properties import storm
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tracemalloc.start()
storm(count=600)
peak = tracemalloc.get_traced_memory()[1]
print(peak, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def storm(count: int) -> None:
    """Read `count` hostile messages, up to far more than a packet may have."""
    rng = random.Random(5)
    for _ in range(count):
        size = rng.choice((0, 23, 24, 25, 100, 5000, MAX_PACKET_BYTES, MAX_PACKET_BYTES + 1, 8 << 20))
        data = b"\xe5\x10" + rng.randbytes(size)
        read(data)
        read(resealed(data[:MAX_PACKET_BYTES]) if size >= 24 else data)


def test_hostile_messages_cost_less_than_64_mb():
    # In a process of its own: the peak of this one is whatever the tests before have needed.
    run = subprocess.run(
        [sys.executable, "-c", _STORM, __file__.rpartition("/")[0]], capture_output=True, text=True, check=True
    )
    python_peak_bytes, process_growth_bytes = map(int, run.stdout.split())
    assert python_peak_bytes < 64e6
    assert process_growth_bytes < 64e6


@given(packets(), st.binary(max_size=200))
def test_side_information_of_any_bytes_are_read_or_refused(packet, junk):
    data = replace(packet, side_info=SideInformation()).to_bytes()
    read(resealed(data[:1] + bytes([data[1] | 4]) + data[2:24] + junk + data[24:]))

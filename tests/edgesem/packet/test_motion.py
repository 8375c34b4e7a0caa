"""Motion: vectors of blocks come back, in few bytes, and no bytes give anything but vectors or an error."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet import motion
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import MAX_MOTION_BYTES, Reference, SideInformation
from tests.independent.motion import read_motion
from tests.independent.packet import read_packet
from tests.independent.refusal import RefusedError

PROTOCOL = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
vectors = st.tuples(st.integers(-255, 255), st.integers(-255, 255))


def of_the_document(data, height, width):
    """What the code of the protocol's document makes of it."""
    (code,) = re.findall(r"```python\n(def motion.*?)```", PROTOCOL, re.DOTALL)
    found = {"np": np, "PacketError": PacketError}
    exec(code, found)
    return found["motion"](data, height, width)


@st.composite
def fields(draw):
    """A frame's vector, and that of each block: mostly the same, in a few boxes another."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    whole = draw(vectors)
    field = np.empty((-(-height // 4), -(-width // 4), 2), np.int16)
    field[:] = whole
    for _ in range(draw(st.integers(0, 4))):
        top, left = draw(st.integers(0, len(field) - 1)), draw(st.integers(0, field.shape[1] - 1))
        field[top : top + draw(st.integers(1, 3)), left : left + draw(st.integers(1, 3))] = draw(vectors)
    return whole, field, height, width


@given(fields())
def test_vectors_come_back(made):
    whole, field, height, width = made
    data = motion.to_bytes(whole, field)
    if len(data) <= MAX_MOTION_BYTES:
        assert (motion.from_bytes(data, height, width) == field).all()


def test_one_vector_for_all_takes_a_byte_or_two():
    field = np.full((12, 20, 2), (0, 1), np.int16)
    assert len(motion.to_bytes((0, 1), field)) == 1
    field[:] = -3, 9
    assert len(motion.to_bytes((-3, 9), field)) == 2
    field[5:7, 8:10] = -3, 8
    assert len(motion.to_bytes((-3, 9), field)) <= 7


@given(st.binary(max_size=70), st.integers(1, 256), st.integers(1, 256))
def test_any_bytes_give_vectors_or_an_error_and_two_other_readers_agree(data, height, width):
    try:
        field = motion.from_bytes(data, height, width)
    except PacketError:
        with pytest.raises(RefusedError):
            read_motion(data, height, width)
        return
    assert field.shape == (-(-height // 4), -(-width // 4), 2)
    assert np.abs(field).max() <= 255
    assert read_motion(data, height, width) == {place: tuple(field[place]) for place in np.ndindex(field.shape[:2])}
    assert (of_the_document(data, height, width) == field).all()


@pytest.mark.parametrize(
    "data", [b"", b"\xe0", b"\0", b"\x60\0", b"\x6b", b"\x41", bytes(3) + b"\x20" + bytes(4), b"\x60" + bytes(64)]
)
def test_what_is_no_motion_of_sixteen_positions_is_refused(data):
    with pytest.raises(PacketError, match="motion"):
        motion.from_bytes(data, 4, 4)


def inter_frame(copies, moved, side=64):
    side_info = SideInformation(reference=Reference(4, 3, copies, moved), embedding=bytes(range(1, 65)))
    return Packet(1, 2, 5, 0, side, side, 100, 1, 0, (b"abc",), side_info=side_info)


@pytest.mark.parametrize("copies", [b"", b"\0"])
def test_a_packet_carries_its_motion(copies):
    made = inter_frame(copies, b"\x50")
    data = made.to_bytes()
    assert len(data) == made.size_bytes == inter_frame(copies, b"").size_bytes + 2
    read = Packet.from_bytes(data)
    assert read == made
    assert (read.motion == (0, 1)).all()
    assert inter_frame(copies, b"").motion is None
    other = read_packet(data).side.reference
    assert other is not None
    assert (other.frame, other.layers, other.copies, other.motion) == (4, 3, copies, b"\x50")


def test_motion_that_does_not_fit_the_picture_or_the_item_makes_no_packet():
    with pytest.raises(PacketError, match="goes beyond"):
        inter_frame(b"", b"\x6b")
    with pytest.raises(PacketError, match="65 bytes"):
        Reference(4, 4, motion=bytes(65))
    for rest in (b"\x84", b"\x84\0", b"\x84\2\x60", b"\x80\1\x60", b"\x85\1\x60"):
        with pytest.raises(PacketError):
            Reference.from_bytes(b"\4\0\0\0" + rest)

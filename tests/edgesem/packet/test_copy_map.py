"""Copy maps: whatever is copied comes back, in few bytes, and no bytes give anything but a map or an error."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.cli.main import main
from edgesem.errors import PacketError
from edgesem.packet import copy_map
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation


@st.composite
def masks(draw):
    """Boxes that are coded in a map that is copied, or the reverse, and single positions of both kinds."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mask = np.full((height, width), draw(st.booleans()))
    for _ in range(draw(st.integers(0, 5))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, 9)), left : left + draw(st.integers(1, 9))] ^= True
    return mask


@given(masks())
def test_a_map_comes_back(mask):
    data = copy_map.to_bytes(mask)
    assert copy_map.size_bytes(mask) == len(data)
    if len(data) <= copy_map.MAX_BYTES:
        assert (copy_map.from_bytes(data, *mask.shape) == mask).all()


def test_a_map_takes_a_byte_if_all_is_copied_and_few_for_a_box():
    everything = np.ones((68, 120), bool)
    assert copy_map.to_bytes(everything) == b"\0"
    everything[20:31, 50:70] = False
    assert len(copy_map.to_bytes(everything)) <= 8
    everything[3, 3] = False
    assert len(copy_map.to_bytes(everything)) <= 12


@given(st.binary(max_size=260), st.integers(1, 256), st.integers(1, 256))
def test_any_bytes_give_a_map_of_the_size_or_an_error(data, height, width):
    try:
        mask = copy_map.from_bytes(data, height, width)
    except PacketError:
        return
    assert mask.shape == (height, width)
    assert mask.dtype == bool
    assert len(copy_map.to_bytes(mask)) <= len(data)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 249, b"\0\0", b"\x7f\xf0", b"\x08\x00\x00", b"\x01", b"\x00\x00\x00\x80\x00\x00\x00"]
)
def test_what_is_no_map_of_sixteen_positions_is_refused(data):
    with pytest.raises(PacketError, match="copy map"):
        copy_map.from_bytes(data, 4, 4)


def inter_frame(copies, side=64):
    side_info = SideInformation(reference=Reference(4, 4, copies), embedding=bytes(range(1, 65)))
    return Packet(1, 2, 5, 0, side, side, 100, 1, 0, (b"abc",), side_info=side_info)


def test_a_packet_carries_its_map_and_says_what_is_copied():
    mask = np.ones((4, 4), bool)
    mask[1, 2] = False
    packet = inter_frame(copy_map.to_bytes(mask))
    data = packet.to_bytes()
    assert len(data) == packet.size_bytes
    assert Packet.from_bytes(data) == packet
    assert (packet.copied == mask).all()
    assert inter_frame(b"").copied is None
    assert packet.side_info.room_bytes == 256 - packet.side_info.size_bytes


def test_a_packet_whose_map_is_of_another_size_is_refused():
    mask = np.ones((8, 8), bool)
    mask[7, 7] = False
    data = copy_map.to_bytes(mask)
    inter_frame(data, side=128)
    with pytest.raises(PacketError, match="beyond 4x4"):
        inter_frame(data, side=64)


def test_info_says_how_much_is_copied(tmp_path, capsys):
    mask = np.ones((4, 4), bool)
    mask[1] = False
    (tmp_path / "inter.es").write_bytes(inter_frame(copy_map.to_bytes(mask)).to_bytes())
    assert main(["info", str(tmp_path / "inter.es"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["side_info"]
    assert said["reference"] == {"frame": 4, "layers": 4}
    assert said["copied"] == 0.75


def test_a_map_that_leaves_no_room_for_the_rest_is_refused():
    with pytest.raises(PacketError, match="at most 256 fit"):
        inter_frame(b"\x7f" * 248)

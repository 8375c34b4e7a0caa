"""Acknowledgements: what stands in them, and what strangers' bytes may do."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from runtime.protocol.ack import Ack

U32 = st.integers(0, 2**32 - 1)
ACKS = st.builds(
    Ack, st.integers(0, 65535), U32, st.integers(0, 3), U32, U32, st.integers(0, 1), U32, st.integers(0, 4)
)


@given(ACKS)
def test_what_was_said_is_understood(ack):
    data = ack.to_bytes()
    assert len(data) <= 27
    assert Ack.from_bytes(data) == ack


@given(st.binary(max_size=100))
def test_any_bytes_are_an_ack_or_a_packet_error(data):
    try:
        ack = Ack.from_bytes(data)
    except PacketError:
        return
    assert Ack.from_bytes(ack.to_bytes()) == ack


@given(ACKS, st.data())
def test_a_changed_ack_is_an_ack_or_a_packet_error(ack, data):
    changed = bytearray(ack.to_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        Ack.from_bytes(bytes(changed))
    except PacketError:
        return


@pytest.mark.parametrize(
    "fields",
    [
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5, 0, 0],
        [1, 2, 4, 4, 5, 0],
        [1, 2, 3, 4, 5, 2],
        [65536, 0, 0, 0, 0, 0],
        [0, 2**32, 0, 0, 0, 0],
        [0, -1, 0, 0, 0, 0],
        [0, 1.0, 0, 0, 0, 0],
        [0, True, 0, 0, 0, 0],
        [0, "1", 0, 0, 0, 0],
        {"epoch": 1},
        7,
    ],
)
def test_fields_out_of_bounds_are_refused(fields):
    with pytest.raises(PacketError, match="ack"):
        Ack.from_bytes(cbor2.dumps(fields))


def test_hostile_cbor_is_refused_before_it_costs_anything():
    for data in (b"\x9b" + b"\xff" * 8, b"\x81" * 64, b"\x5b" + b"\x7f" * 8, b"\x81" * 100_000, b"\xc0\x61a"):
        with pytest.raises(PacketError):
            Ack.from_bytes(data)


def test_items_that_a_later_program_adds_are_skipped():
    ack = Ack(1, 2, 3, 4, 5)
    assert Ack.from_bytes(cbor2.dumps([*cbor2.loads(ack.to_bytes()), 7, b"x", [None]])) == ack


def test_a_tag_is_refused_before_a_library_sees_it(monkeypatch):
    monkeypatch.setattr(cbor2, "loads", lambda *_: pytest.fail("the library has read it"))
    for data in (b"\xc2\x41\x01", b"\x88" + b"\xc2\x41\x01" * 8, b"\xd8\x23\x61("):
        with pytest.raises(PacketError, match="tag"):
            Ack.from_bytes(data)


def test_bytes_after_the_ack_are_refused():
    with pytest.raises(PacketError):
        Ack.from_bytes(Ack(1, 2, 3, 4, 5).to_bytes() + b"\0")

"""Marks of details: what was written is read, and strangers' bytes are refused, whatever they are."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.detail_mark import DetailMark

EDGE = st.integers(0, 65535)
PAIR = st.tuples(EDGE, EDGE).filter(lambda pair: pair[0] < pair[1])


@given(PAIR, PAIR, st.integers(0, 2**32 - 1))
def test_what_was_written_is_read(across, down, request):
    mark = DetailMark(across[0], down[0], across[1], down[1], request)
    assert len(mark.to_bytes()) == mark.size_bytes
    assert DetailMark.from_bytes(mark.to_bytes()) == mark
    left, top, width, height = mark.roi
    assert 0 <= left < left + width <= 1.00001
    assert 0 <= top < top + height <= 1.00001


@given(st.binary(max_size=20))
def test_other_bytes_are_refused(data):
    with contextlib.suppress(PacketError):
        assert DetailMark.from_bytes(data).to_bytes() == data


@given(st.floats(0, 0.98), st.floats(0, 0.98), st.integers(0, 2**64 - 1))
def test_shares_come_back_to_the_pixel(left, top, request):
    mark = DetailMark.of((left, top, 1 - left, 1 - top), request)
    assert mark.roi == pytest.approx((left, top, 1 - left, 1 - top), abs=2e-5)
    assert mark.request == request % 2**32


@pytest.mark.parametrize("place", [(5, 0, 5, 9), (9, 0, 5, 9), (0, 7, 5, 7), (0, 0, 65536, 9), (-1, 0, 5, 9)])
def test_a_place_without_an_inside_is_refused(place):
    with pytest.raises(PacketError, match="detail"):
        DetailMark(*place, 0)

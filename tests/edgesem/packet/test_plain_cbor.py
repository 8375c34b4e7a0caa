"""Check of CBOR from outside: every plain value passes, and nothing that a library would act on."""

import struct

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.plain_cbor import check_plain_cbor

LIMITS = {"max_bytes": 4096, "max_depth": 8}
WORDS = st.integers(-(2**64), 2**64 - 1)
SCALARS = st.none() | st.booleans() | WORDS | st.floats() | st.text(max_size=30) | st.binary(max_size=30)
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


def only_plain(value):
    if isinstance(value, dict):
        return all(map(only_plain, [*value, *value.values()]))
    if isinstance(value, (list, tuple)):
        return all(map(only_plain, value))
    return value is None or type(value) in (bool, int, float, str, bytes)


@given(PLAIN)
def test_plain_values_pass(value):
    data = cbor2.dumps(value)
    check_plain_cbor(data, max_bytes=len(data), max_depth=100)
    with pytest.raises(PacketError, match="more after its end"):
        check_plain_cbor(data + b"\0", max_bytes=len(data) + 1, max_depth=100)
    with pytest.raises(PacketError, match="bytes, at most"):
        check_plain_cbor(data, max_bytes=len(data) - 1, max_depth=100)
    for cut in range(len(data)):
        with pytest.raises(PacketError, match="cut short"):
            check_plain_cbor(data[:cut], **LIMITS | {"max_depth": 100})


def heads(kind):
    """Bytes that begin like an item of a major type."""
    return st.binary(min_size=1, max_size=6).map(lambda data: bytes([kind << 5 | data[0] & 31]) + data[1:])


@given(st.lists(st.integers(0, 7).flatmap(heads), min_size=1, max_size=8).map(b"".join))
def test_whatever_passes_is_read_as_plain_values(data):
    try:
        check_plain_cbor(data, **LIMITS)
    except PacketError:
        return
    try:
        value = cbor2.loads(data)
    except cbor2.CBORDecodeError:  # texts that are no UTF-8
        return
    assert only_plain(value)


@pytest.mark.parametrize("tag", [0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 35, 36, 37, 55799, 2**33])
@pytest.mark.parametrize("around", [b"", b"\x81", b"\xa1\x61a", b"\x9f", b"\xbf\x61a"])
def test_every_tag_is_refused_before_a_library_sees_it(tag, around):
    number = bytes([0xC0 | tag]) if tag < 24 else b"\xdb" + struct.pack(">Q", tag)
    with pytest.raises(PacketError, match="tag"):
        check_plain_cbor(around + number + b"\x01", **LIMITS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xf7", "simple value"),  # undefined
        (b"\xe0", "simple value"),
        (b"\xf8\xff", "simple value"),
        (b"\xff", "simple value"),  # a break without a list
        (b"\x81\xff", "simple value"),
        (b"\x1c", "head"),
        (b"\x1f", "head"),
        (b"\xbf\x61a\xff", "after a key"),
        (b"\xa1\x80\x01", "key of a map"),
        (b"\xa1\xa0\x01", "key of a map"),
        (b"\xbf\x61a\x80\x80\x01\xff", "key of a map"),
        (b"\x5f\x61a\xff", "something else"),
        (b"\x5f\x5f\xff\xff", "something else"),
        (b"\x9b" + b"\xff" * 8, "cut short"),
        (b"\xbb\x80" + bytes(7), "cut short"),
        (b"\x7b" + b"\xff" * 8 + b"a", "cut short"),
        (b"\x81" * 9 + b"\0", "8 deep"),
        (b"\xa1\x61a" * 9 + b"\0", "8 deep"),
        (b"\x9f" * 4000, "8 deep"),
        (b"", "cut short"),
    ],
)
def test_what_is_not_plain_is_refused_in_words(data, why):
    with pytest.raises(PacketError, match=why):
        check_plain_cbor(data, **LIMITS)


@pytest.mark.parametrize("data", [b"\x9f\x01\x82\x02\x03\xff", b"\xbf\x61a\x01\xff", b"\x5f\x41a\x42bc\xff", b"\x80"])
def test_indefinite_lengths_are_plain(data):
    check_plain_cbor(data, **LIMITS)
    assert only_plain(cbor2.loads(data))


def test_a_depth_of_none_allows_scalars_only():
    check_plain_cbor(b"\x01", max_bytes=1, max_depth=0)
    with pytest.raises(PacketError, match="0 deep"):
        check_plain_cbor(b"\x80", max_bytes=1, max_depth=0)

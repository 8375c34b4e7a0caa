"""How a frame's layers become messages: what may be pre-empted, and what is not worth a message of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import NO_SIDE_INFO, SideInformation
from runtime.sender.packetizer import after, next_part
from tests.support.publishing import plain

# Around each chunk: 24 bytes of header, 2 of its length, 44 of MQTT. So layers of 430 bytes are 500 each.
FRAME = plain(chunks=(bytes(430),) * 4)
AROUND_BYTES = 44


def messages(frame, **how):
    """The messages of a frame, one after the other."""
    parts, rest = [], frame
    while rest is not None:
        parts.append(next_part(rest, around_bytes=AROUND_BYTES, **how))
        rest = after(rest, len(parts[-1].chunks))
    return parts


@pytest.mark.parametrize(
    ("rate_bps", "layers"),
    [
        (0.0, [1, 1, 1, 1]),  # nothing is known yet
        (50e3, [1, 1, 1, 1]),  # one layer takes 80 ms
        (100e3, [1, 2, 1]),
        (150e3, [1, 3]),
        (1e6, [1, 3]),
        (2e6, [4]),  # all of it takes less than 10 ms
    ],
)
def test_what_a_link_takes_soon_goes_together_but_the_base_alone(rate_bps, layers):
    parts = messages(FRAME, rate_bps=rate_bps, separate=False)
    assert [len(part.chunks) for part in parts] == layers


def test_each_layer_goes_alone_where_that_is_asked_for():
    assert [len(part.chunks) for part in messages(FRAME, rate_bps=1e9, separate=True)] == [1, 1, 1, 1]


@given(st.floats(0, 1e7), st.booleans(), st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_messages_are_the_frame_in_order_and_notes_go_with_the_base(rate_bps, separate, chunks):
    side_info = SideInformation(embedding=bytes(64))
    frame = plain(layers=len(chunks), chunks=tuple(chunks), side_info=side_info)
    parts = messages(frame, rate_bps=rate_bps, separate=separate)
    assert [chunk for part in parts for chunk in part.chunks] == chunks
    assert [part.side_info for part in parts] == [side_info] + [NO_SIDE_INFO] * (len(parts) - 1)
    assert [part.first_layer for part in parts] == [sum(len(p.chunks) for p in parts[:n]) for n in range(len(parts))]
    assert [Packet.from_bytes(part.to_bytes()) for part in parts] == parts

"""Times of packets: modulo 2^32 milliseconds in the header, whole in promised packets."""

import pytest

from edgesem.packet.capture_time import full_time_ms, nearest_ms
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation
from runtime.protocol.clock import elapsed_s

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000


@pytest.mark.parametrize("days", [0, 1, 24, 25, 30, 49, 50, 400])
def test_the_capture_time_of_a_promised_packet_is_whole(days):
    captured_ms = NOW_MS - days * DAY_MS
    side_info = SideInformation(time_high=captured_ms >> 32)
    sent = Packet(1, 2, 3, captured_ms % 2**32, 64, 64, 9, 1, 0, (b"x" * 9,), promised=True, side_info=side_info)
    packet = Packet.from_bytes(sent.to_bytes())
    assert full_time_ms(packet, NOW_MS) == captured_ms


@pytest.mark.parametrize("since_ms", [0, 1, 5 * DAY_MS, 24 * DAY_MS, -24 * DAY_MS])
def test_without_the_upper_half_it_is_the_time_nearest_to_now(since_ms):
    captured_ms = NOW_MS - since_ms
    packet = Packet(1, 2, 3, captured_ms % 2**32, 64, 64, 9, 1, 0, (b"x" * 9,))
    assert full_time_ms(packet, NOW_MS) == captured_ms
    assert elapsed_s(packet.time_ms, NOW_MS % 2**32) == since_ms / 1000


def test_no_time_is_before_the_clock_began():
    assert nearest_ms(2**32 - 1, 5) == 2**32 - 1

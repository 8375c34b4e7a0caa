"""Memory of a replay window, whatever comes."""

import tracemalloc
from dataclasses import replace

from edgesem.packet.packet import Packet
from edgesem.packet.replay import Replay


def test_a_window_takes_about_two_megabytes_whatever_comes():
    one = Packet(7, 1, 0, 0, 64, 48, 100, 4, 0, (b"a", b"b", b"c", b"d"))
    window, sizes = Replay(), []
    tracemalloc.start()
    try:
        for number in range(20_000):
            assert window.fresh(replace(one, epoch=number, frame=number, promised=True))
            assert window.fresh(replace(one, epoch=number // 1100, frame=number))
            if number in (12_000, 19_999):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < 1.1 * sizes[0] < 2_200_000
    assert not window.fresh(replace(one, epoch=19_999, frame=19_999, promised=True))
    assert not window.fresh(replace(one, epoch=18, frame=19_999))

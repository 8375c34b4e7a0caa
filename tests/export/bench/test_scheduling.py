"""An encoder leaves the thread that calls it as it was."""

import os

import numpy as np
import pytest

from export.bench.rd.stills import encode_svtav1
from export.bench.video import peers


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler") or os.geteuid() != 0, reason="needs root on Linux")
@pytest.mark.parametrize(
    "encode",
    [
        lambda frame: encode_svtav1(frame, 20, 8, "iq"),
        lambda frame: list(peers.coders("svtav1-p10-rtc", 5, 60)[0]([frame])),
    ],
    ids=["still", "clip"],
)
def test_svt_av1_does_not_make_the_caller_a_real_time_thread(encode):
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    assert encode(np.zeros((64, 64, 3), np.uint8))
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before

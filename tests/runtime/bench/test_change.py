"""bench change: events out of detections, and what frames that are sent on change show of them."""

import numpy as np

from edgesem.quality.judges import Detection
from runtime.bench.change import CodedFrame, compare, total
from runtime.bench.change_events import find_events, recall

HERE, THERE = (10, 10, 50, 50), (100, 100, 140, 140)


def seen(box, label="thing"):
    return Detection(label, 0.9, box)


def test_events_are_objects_that_stay_whatever_they_are_called():
    found = [[seen(HERE)], [seen(HERE, "cup")], [seen(HERE), seen(THERE)], [], [seen(THERE)], [seen(THERE)]]
    events = find_events(found, [t / 5 for t in range(6)])
    assert [sorted(one.boxes) for one in events] == [[0, 1, 2], [2, 4, 5]]
    assert recall(events, [0], found) == 0.5
    assert recall(events, [2], found) == 1
    assert recall(events, [3], found) == 0
    assert find_events(found[:2], [0, 0.2]) == []


def test_on_change_few_frames_are_sent_and_they_show_the_event():
    quiet, busy = np.eye(8, dtype=np.float32)[:2]
    frames = []
    for index in range(60):
        there = 30 <= index < 50
        found = [seen(HERE)] if there else []
        frames.append(CodedFrame(index / 5, busy if there else quiet, 1000, 1100, found, found))
    result = compare(frames, sensitivities=(2.0,))
    assert result["events"] == 1
    assert result["all"] == {"bytes": 60_000, "recall": 1.0}
    assert result["change"]["recall"] == 1.0
    assert result["change"]["frames"] < 10
    assert result["change"]["saved"] > 0.8
    assert total([result, result])["change"]["bytes"] == 2 * result["change"]["bytes"]

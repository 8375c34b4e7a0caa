"""Events before a fixed camera: objects that a detector sees come, stay for a while, and go; and their recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgesem.quality.judges import Detection, iou

_SAME_IOU = 0.3  # of an object with itself, a frame later
_GAP_S = 1.0  # detectors miss an object now and then
_MIN_SEEN = 3  # what is seen less often may be nothing

Box = tuple[float, float, float, float]


@dataclass
class Event:
    """One object from its first detection to its last; the label is ignored, because detectors waver."""

    boxes: dict[int, Box] = field(default_factory=dict)
    """By the frame's place in the clip."""

    @property
    def first(self) -> int:
        """Place of the first frame that shows it."""
        return min(self.boxes)

    def seen_in(self, frame: int, detections: Sequence[Detection]) -> bool:
        """Whether the detections in a (decoded) frame include this object."""
        box = self.boxes.get(frame)
        return box is not None and any(iou(box, one.box) >= _SAME_IOU for one in detections)


def find_events(detections: Sequence[Sequence[Detection]], times_s: Sequence[float]) -> list[Event]:
    """The events of a clip, ordered by their first frame, from the detections in each of its frames."""
    open_events: list[tuple[Event, int]] = []
    """Events that go on, and the frame in which each was last seen."""
    closed: list[Event] = []
    for frame, found in enumerate(detections):
        lost = [one for one in open_events if times_s[frame] - times_s[one[1]] > _GAP_S]
        closed += [event for event, _ in lost]
        open_events = [one for one in open_events if one not in lost]
        matched: list[Event] = []
        for one in found:
            free = [(event, last) for event, last in open_events if event not in matched]
            nearest = max(free, key=lambda pair: iou(pair[0].boxes[pair[1]], one.box), default=None)
            if nearest is not None and iou(nearest[0].boxes[nearest[1]], one.box) >= _SAME_IOU:
                event = nearest[0]
                open_events = [(e, frame if e is event else last) for e, last in open_events]
            elif any(iou(event.boxes[frame], one.box) >= _SAME_IOU for event in matched):
                continue  # the same object under a second label
            else:
                event = Event()
                open_events.append((event, frame))
            event.boxes[frame] = one.box
            matched.append(event)
    closed += [event for event, _ in open_events]
    return sorted((event for event in closed if len(event.boxes) >= _MIN_SEEN), key=lambda event: event.first)


def recall(events: Sequence[Event], sent: Sequence[int], decoded: Sequence[Sequence[Detection]]) -> float:
    """Share of the events that at least one sent frame shows after decoding; `decoded`: detections by frame."""
    if not events:
        return 1.0
    return sum(any(event.seen_in(frame, decoded[frame]) for frame in sent) for event in events) / len(events)

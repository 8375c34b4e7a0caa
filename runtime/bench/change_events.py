"""What happens before a fixed camera, by a detector's account: objects that come, stay for a while, and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgesem.quality.judges import Detection, iou

_SAME = 0.3  # overlap of an object with itself, a frame later
_GAP_S = 1.0  # a detector loses sight of things
_LEAST_SEEN = 3  # times; what is seen less often may be nothing

Box = tuple[float, float, float, float]


@dataclass
class Event:
    """One object from its first sight to its last; the label is not asked for, because detectors waver."""

    boxes: dict[int, Box] = field(default_factory=dict)
    """By the frame's place in the clip."""

    @property
    def first(self) -> int:
        return min(self.boxes)

    def seen_in(self, frame: int, found: Sequence[Detection]) -> bool:
        """Whether what a detector found in a (decoded) frame shows this object."""
        box = self.boxes.get(frame)
        return box is not None and any(iou(box, one.box) >= _SAME for one in found)


def events(found: Sequence[Sequence[Detection]], times_s: Sequence[float]) -> list[Event]:
    """The events of a clip, from what a detector found in each of its frames."""
    going: list[tuple[Event, int]] = []
    done: list[Event] = []
    for frame, seen in enumerate(found):
        lost = [one for one in going if times_s[frame] - times_s[one[1]] > _GAP_S]
        done += [event for event, _ in lost]
        going = [one for one in going if one not in lost]
        taken: list[Event] = []
        for one in seen:
            free = [(event, last) for event, last in going if event not in taken]
            near = max(free, key=lambda pair: iou(pair[0].boxes[pair[1]], one.box), default=None)
            if near is not None and iou(near[0].boxes[near[1]], one.box) >= _SAME:
                event = near[0]
                going = [(e, frame if e is event else last) for e, last in going]
            elif any(iou(event.boxes[frame], one.box) >= _SAME for event in taken):
                continue  # the same object under a second name
            else:
                event = Event()
                going.append((event, frame))
            event.boxes[frame] = one.box
            taken.append(event)
    done += [event for event, _ in going]
    return sorted((event for event in done if len(event.boxes) >= _LEAST_SEEN), key=lambda event: event.first)


def recall(of: Sequence[Event], sent: Sequence[int], decoded: Sequence[Sequence[Detection]]) -> float:
    """The share of events that at least one sent frame shows after decoding; `decoded` is by frame."""
    if not of:
        return 1.0
    return sum(any(event.seen_in(frame, decoded[frame]) for frame in sent) for event in of) / len(of)

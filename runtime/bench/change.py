"""Bench of `--send-on change`: the bytes that it saves on clips of fixed cameras, and the events that it misses.

clip -> frames -> analyze once -> packets (all) -> decode -> detector
                               -> Novelty -> which are sent -> bytes, events that a sent frame shows
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.codec.options import PackOptions
from edgesem.files import find_pictures, read_picture
from edgesem.packet.side_information import SideInformation
from edgesem.quality.judges import Detection, Detector
from edgesem.semantics.embedding import SemanticHead, Vector, to_bytes
from edgesem.video import read_video
from runtime.bench.change_events import find_events, recall
from runtime.sender.novelty import Novelty

SENSITIVITIES = (0.25, 0.35, 0.5, 0.7, 1.4, 2.0, 3.0, 5.0)
_DELIVERED_AFTER = 1  # frames until a receiver has one

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CodedFrame:
    """One frame of a clip, coded once, with its embedding and the detections before and after coding."""

    time_s: float
    embedding: Vector
    plain_bytes: int
    """Size of its packet in messages, without the embedding as side information."""
    size_bytes: int
    """The same with it."""
    original: list[Detection]
    decoded: list[Detection]


def read_clip(path: Path, fps: float) -> list[tuple[float, Frame]]:
    """(time in seconds, uint8 [H, W, 3]) of a video at `fps`, or of a folder's pictures as if taken at that rate."""
    if path.is_dir():
        return [(index / fps, read_picture(picture)) for index, picture in enumerate(find_pictures(path))]
    return [(frame.time_s, frame.rgb()) for frame in read_video(path, rate_hz=fps)]


def code_clip(
    frames: Sequence[tuple[float, Frame]],
    codec: Codec,
    detector: Detector,
    quality: float,
    least_score: float,
    progress: Callable[[float], None],
) -> list[CodedFrame]:
    """Code, decode and judge each frame of a clip once."""
    head, coded = SemanticHead(codec.bundle), []
    for index, (time_s, frame) in enumerate(frames):
        latent = codec.analyze(frame)
        embedding = head.embed(latent)
        plain = codec.pack(latent, quality=quality)
        options = PackOptions(side_info=SideInformation(embedding=to_bytes(embedding)))
        noted = codec.pack(latent, quality=quality, options=options)
        decoded = codec.synthesize(codec.unpack(plain))
        found = (detector.predict(frame, least_score), detector.predict(decoded, least_score))
        coded.append(CodedFrame(time_s, embedding, plain.wire_bytes, noted.wire_bytes, *found))
        progress((index + 1) / len(frames))
    return coded


def select(frames: Sequence[CodedFrame], novelty: Novelty) -> list[int]:
    """Places of the frames that a sender with this novelty sends, each delivered before the frame after the next."""
    sent: list[int] = []
    for index, frame in enumerate(frames):
        for earlier in sent[-1:]:
            if index - earlier >= _DELIVERED_AFTER:
                novelty.delivered(earlier)
        if novelty.look(frame.embedding, frame.time_s).due:
            novelty.sent(index, frame.embedding, frame.time_s)
            sent.append(index)
    return sent


def compare(frames: Sequence[CodedFrame], sensitivities: Sequence[float] = SENSITIVITIES) -> dict[str, Any]:
    """Bytes and recall of sending all frames, of `--send-on change` as it ships, and at other sensitivities.

    `blind_recall` is that of as many frames at even distances: it tells what the choice of frames is worth.
    """
    events = find_events([frame.original for frame in frames], [frame.time_s for frame in frames])
    decoded = [frame.decoded for frame in frames]
    total_bytes = sum(frame.plain_bytes for frame in frames)

    def row(novelty: Novelty) -> dict[str, Any]:
        sent = select(frames, novelty)
        even = sorted({round(i) for i in np.linspace(0, len(frames) - 1, len(sent))})
        size = sum(frames[i].size_bytes for i in sent)
        return {
            "sensitivity": novelty.sensitivity,
            "frames": len(sent),
            "bytes": size,
            "saved": round(1 - size / total_bytes, 4),
            "recall": round(recall(events, sent, decoded), 4),
            "blind_recall": round(recall(events, even, decoded), 4),
        }

    return {
        "frames": len(frames),
        "seconds": round(frames[-1].time_s - frames[0].time_s, 2),
        "events": len(events),
        "all": {"bytes": total_bytes, "recall": round(recall(events, range(len(frames)), decoded), 4)},
        "change": row(Novelty()),
        "sensitivities": [row(Novelty(sensitivity=value)) for value in sensitivities],
    }


def total(clips: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over all clips of `compare`, recall weighted by events, so that a long clip counts for its length."""
    rows = list(clips)
    events = sum(row["events"] for row in rows)
    all_bytes = sum(row["all"]["bytes"] for row in rows)

    def mean(name: str, part: str = "change") -> float:
        found = sum(row[part][name] * row["events"] for row in rows)
        return round(found / events, 4) if events else 1.0

    sent_bytes = sum(row["change"]["bytes"] for row in rows)
    return {
        "frames": sum(row["frames"] for row in rows),
        "events": events,
        "all": {"bytes": all_bytes, "recall": mean("recall", "all")},
        "change": {
            "frames": sum(row["change"]["frames"] for row in rows),
            "bytes": sent_bytes,
            "saved": round(1 - sent_bytes / all_bytes, 4),
            "recall": mean("recall"),
            "blind_recall": mean("blind_recall"),
        },
    }

"""What `--send-on change` saves on clips of fixed cameras, and which events it costs.

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
from edgesem.errors import InputError, require
from edgesem.files import find_pictures, read_picture
from edgesem.packet.side_information import SideInformation
from edgesem.quality.judges import Detection, Detector
from edgesem.semantics.embedding import SemanticHead, Vector, to_bytes
from runtime.bench.change_events import events, recall
from runtime.sender.novelty import Novelty

VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
SENSITIVITIES = (0.25, 0.35, 0.5, 0.7, 1.4, 2.0, 3.0, 5.0)
_DELIVERED_AFTER = 1  # frames until a receiver has one

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """One frame of a clip, as sender, receiver and detector see it."""

    time_s: float
    meaning: Vector
    plain_bytes: int
    """Of its packet in messages, without an embedding."""
    size_bytes: int
    """And with one."""
    original: list[Detection]
    decoded: list[Detection]


def read_clip(path: Path, fps: float) -> list[tuple[float, Frame]]:
    """The frames of a video at about so many a second, or the pictures of a folder as if taken at that rate."""
    if path.is_dir():
        return [(index / fps, read_picture(picture)) for index, picture in enumerate(find_pictures(path))]
    av = require("av", "video")

    frames: list[tuple[float, Frame]] = []
    try:
        with av.open(str(path)) as container:
            for picture in container.decode(video=0):
                time_s = float(picture.time or 0.0)
                if not frames or time_s >= frames[-1][0] + 1 / fps - 1e-3:
                    frames.append((time_s, np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)))
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error})") from error
    if not frames:
        raise InputError(f"{path}: no picture could be decoded")
    return frames


def shoot(
    frames: Sequence[tuple[float, Frame]],
    codec: Codec,
    detector: Detector,
    quality: float,
    least_score: float,
    progress: Callable[[float], None],
) -> list[Shot]:
    """All frames of a clip coded, decoded and looked at, once."""
    head, shots = SemanticHead(codec.bundle), []
    for index, (time_s, frame) in enumerate(frames):
        latent = codec.analyze(frame)
        meaning = head.look(latent)
        plain = codec.pack(latent, quality=quality)
        noted = codec.pack(latent, quality=quality, side_info=SideInformation(embedding=to_bytes(meaning)))
        decoded = codec.synthesize(codec.unpack(plain))
        seen = (detector.detect(frame, least_score), detector.detect(decoded, least_score))
        shots.append(Shot(time_s, meaning, plain.wire_bytes, noted.wire_bytes, *seen))
        progress((index + 1) / len(frames))
    return shots


def choose(shots: Sequence[Shot], novelty: Novelty) -> list[int]:
    """The frames that a sender with this novelty would send, each delivered before the frame after the next."""
    sent: list[int] = []
    for index, shot in enumerate(shots):
        for earlier in sent[-1:]:
            if index - earlier >= _DELIVERED_AFTER:
                novelty.delivered(earlier)
        if novelty.look(shot.meaning, shot.time_s).due:
            novelty.sent(index, shot.meaning, shot.time_s)
            sent.append(index)
    return sent


def compare(shots: Sequence[Shot], sensitivities: Sequence[float] = SENSITIVITIES) -> dict[str, Any]:
    """Bytes and recall of sending all frames, of `--send-on change` as it ships, and at other sensitivities.

    `blind` is what as many frames would show at an even pace: what the choice of frames is worth.
    """
    happened = events([shot.original for shot in shots], [shot.time_s for shot in shots])
    decoded = [shot.decoded for shot in shots]
    total_bytes = sum(shot.plain_bytes for shot in shots)

    def row(novelty: Novelty) -> dict[str, Any]:
        sent = choose(shots, novelty)
        even = sorted({round(i) for i in np.linspace(0, len(shots) - 1, len(sent))})
        size = sum(shots[i].size_bytes for i in sent)
        return {
            "sensitivity": novelty.sensitivity,
            "frames": len(sent),
            "bytes": size,
            "saved": round(1 - size / total_bytes, 4),
            "recall": round(recall(happened, sent, decoded), 4),
            "blind_recall": round(recall(happened, even, decoded), 4),
        }

    return {
        "frames": len(shots),
        "seconds": round(shots[-1].time_s - shots[0].time_s, 2),
        "events": len(happened),
        "all": {"bytes": total_bytes, "recall": round(recall(happened, range(len(shots)), decoded), 4)},
        "change": row(Novelty()),
        "sensitivities": [row(Novelty(sensitivity=value)) for value in sensitivities],
    }


def total(clips: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All clips together: bytes and events added up, so that a long clip counts for what it is."""
    rows = list(clips)
    happened = sum(row["events"] for row in rows)
    all_bytes = sum(row["all"]["bytes"] for row in rows)

    def over(name: str, part: str = "change") -> float:
        found = sum(row[part][name] * row["events"] for row in rows)
        return round(found / happened, 4) if happened else 1.0

    sent = sum(row["change"]["bytes"] for row in rows)
    return {
        "frames": sum(row["frames"] for row in rows),
        "events": happened,
        "all": {"bytes": all_bytes, "recall": over("recall", "all")},
        "change": {
            "frames": sum(row["change"]["frames"] for row in rows),
            "bytes": sent,
            "saved": round(1 - sent / all_bytes, 4),
            "recall": over("recall"),
            "blind_recall": over("blind_recall"),
        },
    }

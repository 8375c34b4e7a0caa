"""Clip of an event: MP4 where PyAV is installed (the extra video), otherwise an animated WebP file."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, require
from edgesem.files import read_picture
from runtime.receiver.event_frames import EventFrame

if TYPE_CHECKING:
    from PIL.Image import Image

_LAST_MS = 1000
"""How long the last frame is shown."""
_LONGEST_MS = 5000
"""A gap between two frames is shown for so long at most: nothing moves meanwhile."""
_MOST_WEBP_FRAMES = 240
_WEBP_QUALITY = 60


def clip_suffix() -> str:
    """Suffix of the clips that can be made here."""
    return ".mp4" if find_spec("av") is not None else ".webp"


def make_clip(frames: Sequence[EventFrame], suffix: str, comment: str) -> bytes:
    """The clip of an event's frames, at the pace of their capture; `comment` says in its metadata what it is.

    All frames have the size of the first; others are stretched to it. InputError if no frame can be read.
    """
    return _mp4(frames, comment) if suffix == ".mp4" else _webp(frames, comment)


def open_frame(path: Path, size: tuple[int, int] | None = None) -> Image:
    """A frame's picture, RGB, of this size. InputError if it cannot be read."""
    from PIL import Image

    image = Image.fromarray(read_picture(path))
    return image if size is None or image.size == size else image.resize(size)


def _durations_ms(frames: Sequence[EventFrame]) -> list[int]:
    """How long each frame is shown."""
    steps = [later.since_ms - frame.since_ms for frame, later in itertools.pairwise(frames)]
    return [min(max(step, 1), _LONGEST_MS) for step in steps] + [_LAST_MS]


def _mp4(frames: Sequence[EventFrame], comment: str) -> bytes:
    av = require("av", "video")
    first = open_frame(frames[0].path)
    size = first.width & ~1, first.height & ~1  # 4:2:0 has no odd sides
    part = frames[0].path.with_name("clip.part")  # FFmpeg opens it again, to move its index to the front
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            container.metadata["comment"] = comment
            stream = container.add_stream("libx264", options={"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            at_ms = 0
            # The last one comes twice: a player ends with the time of the last frame.
            for frame, duration_ms in zip([*frames, frames[-1]], [*_durations_ms(frames), 0], strict=True):
                picture: NDArray[np.uint8] = np.asarray(open_frame(frame.path, size))
                coded = av.VideoFrame.from_ndarray(picture, format="rgb24")
                coded.pts, coded.time_base = at_ms, Fraction(1, 1000)
                container.mux(stream.encode(coded))
                at_ms += duration_ms
            container.mux(stream.encode(None))
        return part.read_bytes()
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"no clip could be made of {frames[0].path.parent}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _webp(frames: Sequence[EventFrame], comment: str) -> bytes:
    step = -(-len(frames) // _MOST_WEBP_FRAMES)  # all of them are in memory
    chosen = frames[::step]
    first = open_frame(chosen[0].path)
    rest = [open_frame(frame.path, first.size) for frame in chosen[1:]]
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=rest,
        duration=_durations_ms(chosen),
        loop=0,
        quality=_WEBP_QUALITY,
        method=2,
        xmp=_xmp(comment),
    )
    return buffer.getvalue()


def _xmp(comment: str) -> bytes:
    from xml.sax.saxutils import escape

    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{escape(comment)}</rdf:li>'
        "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()

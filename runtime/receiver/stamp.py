"""Stamp of a picture: time of capture, camera and "drawn", written over it at the receiver. It costs no bits."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

Pixels = NDArray[np.uint8]
STAMPS = ("auto", "off", "small", "bar")
"""auto: nothing but "drawn, detail invented", and that only where there were steps of the flow decoder. small: time,
camera and label in the lower left corner. bar: the same on a bar over the whole width."""
DRAWN, INVENTED = "drawn", "drawn, detail invented"
NO_CLOCK = "(clock not set)"
_OLDEST_MS = 1_735_689_600_000
"""The year 2025: no camera has sent a packet before."""
_AHEAD_MS = 60_000
_LATE_MS = 3_600_000
"""An ordinary frame is sent at once or not at all: it is not so old. A promised one may be."""
_LAST_MS = 253_402_300_799_999  # of the year 9999
_LINES_SHARE = 24
"""Of the picture's shorter side, a line of text takes one part in so many."""
_LEAST_PX = 8
_SPACE, _INK, _PAPER = "   ", (255, 255, 255), (16, 16, 16)


def stamp_picture(
    image: Pixels, kind: str, *, name: str, captured_ms: int | None, steps: int, clock_set: bool = True
) -> Pixels:
    """`image` (uint8 [H, W, 3], RGB) with its stamp of `kind`, one of STAMPS; itself if nothing is to be written.

    Nothing outside the stamp changes. `captured_ms` is in Unix milliseconds, None if it is not known; it is shown in
    this machine's time zone. A picture too small for all of it loses the camera's `name` first, then the time, never
    the label. Thread-safe.
    """
    label = INVENTED if steps > 0 else DRAWN
    if kind == "off" or (kind == "auto" and steps <= 0):
        return image
    height, width = image.shape[:2]
    if kind == "auto":
        choices: list[list[str]] = [[INVENTED]]
    else:
        time = [*time_text(captured_ms).split(), *([] if clock_set else NO_CLOCK.split())]
        choices = [[" ".join(time), name, label], [" ".join(time), label], [label]]
    lines, font, line_px = _fit([*choices, [DRAWN]], width, height)
    return _write(image, lines, font, line_px, bar=kind == "bar")


def clock_is_set(packet: Packet, now_ms: int) -> bool:
    """Whether the clock of a packet's sender may have been right: its time is not of before this program, not ahead of
    `now_ms` by more than a minute, and an ordinary frame's not an hour old. A smaller error is not seen. Where `now_ms`
    is itself of before this program, as on a board without a clock, a promised frame's own time is better."""
    captured_ms = full_time_ms(packet, now_ms)
    oldest_ms = _OLDEST_MS if packet.promised else max(_OLDEST_MS, now_ms - _LATE_MS)
    return oldest_ms <= captured_ms <= (now_ms + _AHEAD_MS if now_ms >= _OLDEST_MS else _LAST_MS)


def time_text(captured_ms: int | None) -> str:
    """Date, time and offset of the zone, such as 2026-11-30 07:20:37 +01:00."""
    if captured_ms is None:
        return "time not known"
    moment = datetime.fromtimestamp(min(max(captured_ms, 0), _LAST_MS) // 1000, timezone.utc)
    with contextlib.suppress(OverflowError, OSError, ValueError):  # the zone's rules end before the year 9999
        moment = moment.astimezone()
    return moment.isoformat(sep=" ").replace("+", " +") if moment.utcoffset() else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _fit(choices: Sequence[list[str]], width: int, height: int) -> tuple[list[str], Font, int]:
    """Lines of the first of `choices` that fits into half of the picture, their font, and the height of a line."""
    wanted_px = max(_LEAST_PX + 2, round(min(width, height) / _LINES_SHARE))
    for parts in choices:
        for size_px in sorted({wanted_px, _LEAST_PX}, reverse=True):
            font, line_px = stamp_font(size_px), round(size_px * 1.4)
            lines = _wrap(parts, font, width - line_px)
            if lines is not None and len(lines) * line_px <= height // 2:
                return lines, font, line_px
    return [choices[-1][0]], stamp_font(_LEAST_PX), round(_LEAST_PX * 1.4)


def _wrap(parts: Sequence[str], font: Font, width: int) -> list[str] | None:
    """Lines of at most `width` pixels: a break is between parts, or between words where a part is too long for one.

    None if a word is.
    """
    lines: list[str] = []
    for part in parts:
        if lines and font.getlength(joined := f"{lines[-1]}{_SPACE}{part}") <= width:
            lines[-1] = joined
            continue
        words = [part] if font.getlength(part) <= width else part.split()
        lines.append(words[0])
        for word in words[1:]:
            if font.getlength(joined := f"{lines[-1]} {word}") <= width:
                lines[-1] = joined
            else:
                lines.append(word)
    return lines if all(font.getlength(line) <= width for line in lines) else None


def _write(image: Pixels, lines: Sequence[str], font: Font, line_px: int, *, bar: bool) -> Pixels:
    """A copy of the picture with the lines at its lower edge."""
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    longest_px = max(font.getlength(line) for line in lines)
    box = (width if bar else min(width, round(longest_px) + line_px), min(height, len(lines) * line_px))
    paper = Image.new("RGB", box, _PAPER)
    draw = ImageDraw.Draw(paper)
    for place, line in enumerate(lines):
        draw.text((line_px // 2, (place + 0.5) * line_px), line, fill=_INK, font=font, anchor="lm")
    stamped = image.copy()
    stamped[height - box[1] :, : box[0]] = np.asarray(paper)
    return stamped


@lru_cache(16)
def stamp_font(size_px: int) -> Font:
    """The font of stamps."""
    from PIL import ImageFont

    return ImageFont.load_default(size_px)

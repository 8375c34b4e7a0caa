"""Contact sheet of an event: its frames as small pictures on one, each with its time from the event's beginning."""

from __future__ import annotations

import io
from collections.abc import Sequence

from edgesem.errors import InputError
from runtime.receiver.event_clip import open_frame
from runtime.receiver.event_frames import EventFrame
from runtime.receiver.stamp import DRAWN, stamp_font, time_text

_COLUMNS, _MOST = 4, 20
_WIDTH_PX, _GAP_PX, _TEXT_PX, _LINE_PX = 240, 8, 14, 22
_PAPER, _INK, _FAINT, _MARK = (24, 24, 27), (244, 244, 245), (161, 161, 170), (234, 88, 12)
_JPEG_QUALITY = 85


def make_contact_sheet(frames: Sequence[EventFrame], *, stream: str, begun_ms: int, about: str) -> bytes:
    """The sheet as a JPEG file, of at most 20 of the frames, the one nearest to the event's beginning among them.

    It is headed by the stream, the time (Unix milliseconds) and what the event is `about`. A frame that cannot be
    read leaves its place empty; InputError if none can.
    """
    from PIL import Image, ImageDraw

    chosen = _spread(frames)
    nearest = min(range(len(chosen)), key=lambda place: abs(chosen[place].since_ms))
    first = _any_size(chosen)
    height_px = max(1, round(_WIDTH_PX * first[1] / first[0]))
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = (
        _GAP_PX + columns * (_WIDTH_PX + _GAP_PX),
        _GAP_PX + 2 * _LINE_PX + rows * (height_px + _LINE_PX + _GAP_PX),
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = stamp_font(_TEXT_PX)
    for line, text, colour in ((0, about, _INK), (1, f"{stream}   {time_text(begun_ms)}   {DRAWN}", _FAINT)):
        draw.text((_GAP_PX, _GAP_PX + (line + 0.5) * _LINE_PX), text, fill=colour, font=font, anchor="lm")
    for place, frame in enumerate(chosen):
        x = _GAP_PX + place % columns * (_WIDTH_PX + _GAP_PX)
        y = _GAP_PX + 2 * _LINE_PX + place // columns * (height_px + _LINE_PX + _GAP_PX)
        try:
            sheet.paste(open_frame(frame.path, (_WIDTH_PX, height_px)), (x, y))
        except InputError:
            draw.rectangle((x, y, x + _WIDTH_PX - 1, y + height_px - 1), outline=_FAINT)
        if place == nearest:
            draw.rectangle((x, y, x + _WIDTH_PX - 1, y + height_px - 1), outline=_MARK, width=3)
        caption = f"{frame.since_ms / 1000:+.1f} s"
        colour = _MARK if place == nearest else _FAINT
        draw.text((x, y + height_px + _LINE_PX / 2), caption, fill=colour, font=font, anchor="lm")
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def nearest_frame(frames: Sequence[EventFrame]) -> EventFrame:
    """The frame that was captured nearest to the event's beginning."""
    return min(frames, key=lambda frame: abs(frame.since_ms))


def _spread(frames: Sequence[EventFrame]) -> list[EventFrame]:
    """At most 20 frames, evenly spread, with the first, the last and the one nearest to the beginning."""
    if len(frames) <= _MOST:
        return list(frames)
    places = {round(number * (len(frames) - 1) / (_MOST - 1)) for number in range(_MOST)}
    nearest = frames.index(nearest_frame(frames))
    replaced = min(places - {0, len(frames) - 1}, key=lambda place: abs(place - nearest))
    return [frames[place] for place in sorted(places - {replaced} | {nearest})]


def _any_size(frames: Sequence[EventFrame]) -> tuple[int, int]:
    """Size of the first frame that can be read. InputError if none can."""
    for frame in frames[:-1]:
        try:
            return open_frame(frame.path).size
        except InputError:
            continue
    return open_frame(frames[-1].path).size

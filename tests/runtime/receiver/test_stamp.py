"""Stamp over a received picture: its words stand where they should, and nothing else of the picture changes."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from edgesem.packet.side_information import SideInformation
from edgesem.provenance import Provenance
from runtime.protocol.topics import Topics
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.stamp import DRAWN, INVENTED, NO_CLOCK, clock_is_set, stamp_picture
from tests.support.publishing import codec, frame

PHOTO = np.random.default_rng(1).integers(60, 200, (240, 320, 3), np.uint8)
NAME = "home/door/main"
CAPTURED_MS = 1_796_034_937_123  # 2026-11-30 10:35:37 UTC
SIZE_PX = 10
"""Of the text on a picture of 320 x 240."""


@pytest.fixture(autouse=True)
def _zone(monkeypatch):
    """A machine two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def stamped(kind, image=PHOTO, **changes):
    return stamp_picture(image, kind, **{"name": NAME, "captured_ms": CAPTURED_MS, "steps": 0, **changes})


def place_of(words, image, size_px=SIZE_PX):
    """Where in the picture the words stand, as row and column of their left upper corner; None if they do not."""
    font = ImageFont.load_default(size_px)
    paper = Image.new("L", (round(font.getlength(words)) + 4, size_px * 2))
    ImageDraw.Draw(paper).text((2, size_px), words, fill=255, font=font, anchor="lm")
    wanted = np.asarray(paper) > 128
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    wanted = wanted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ink = image.min(axis=2) > 128
    if any(have < want for have, want in zip(ink.shape, wanted.shape, strict=True)):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(ink, wanted.shape)
    found = np.argwhere((windows == wanted).mean(axis=(2, 3)) > 0.97)
    return tuple(found[0]) if len(found) else None


def changed(image, before=PHOTO):
    """Rows and columns within which the picture has changed."""
    rows, columns = np.nonzero((image != before).any(axis=2))
    return (int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1)


def test_a_small_stamp_says_when_where_and_how_in_the_lower_left_corner():
    image = stamped("small")
    for words in ("2026-11-30 12:35:37 +02:00", NAME, DRAWN):
        row, column = place_of(words, image)
        assert row > 220
        assert column < 260
    (top, bottom), (left, right) = changed(image)
    assert (bottom, left) == (240, 0)
    assert top >= 210
    assert right < 320  # a corner of the picture is free


def test_a_bar_is_as_wide_as_the_picture():
    image = stamped("bar")
    (top, bottom), columns = changed(image)
    assert (bottom, columns) == (240, (0, 320))
    assert top >= 210
    assert place_of(NAME, image)[0] > top


@pytest.mark.parametrize(("kind", "steps", "label"), [("auto", 2, INVENTED), ("small", 1, INVENTED), ("bar", 0, DRAWN)])
def test_what_was_invented_is_said(kind, steps, label):
    image = stamped(kind, steps=steps)
    assert place_of(label, image) is not None
    assert (place_of(NAME, image) is None) == (kind == "auto")


def test_nothing_is_written_where_nothing_was_invented_or_nobody_wants_it():
    assert stamped("auto") is PHOTO
    assert stamped("off", steps=4) is PHOTO


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (80, 96), (64, 400)])
def test_a_small_picture_keeps_the_label_and_half_of_its_height(size):
    before = np.full((*size, 3), 90, np.uint8)
    image = stamped("bar", before, steps=1)
    (top, _), _ = changed(image, before)
    assert image.shape == before.shape
    assert top >= size[0] // 2 or size[0] < 48
    if size[1] > 90:
        assert place_of(INVENTED, image, 8) or place_of(INVENTED, image, 10)


def picture(**changes):
    packet = replace(frame(1), **changes)
    return ReceivedPicture(
        NAME, Topics("home", "door", "main"), packet, PHOTO, 0, 0.0, 0.0, Provenance.of(packet, codec().bundle)
    )


def test_a_clock_that_was_not_set_is_told():
    now_ms = time.time_ns() // 1_000_000
    since_start_ms = SideInformation(time_high=0)  # a board without a clock begins at 1970
    wrong = [
        picture(time_ms=90_000, promised=True, side_info=since_start_ms),
        picture(time_ms=(now_ms + 3_600_000) % 2**32),
        picture(time_ms=(now_ms - 7_200_000) % 2**32),
    ]
    # A promised frame may have waited for days.
    old = now_ms - 5 * 86_400_000
    right = [
        picture(),
        picture(time_ms=old % 2**32, promised=True, side_info=SideInformation(time_high=old >> 32)),
    ]
    for kind in ("small", "bar"):
        assert all(place_of(NO_CLOCK, one.stamped(kind).image) for one in wrong)
        assert not any(place_of(NO_CLOCK, one.stamped(kind).image) for one in right)
    assert place_of("1970-01-01 02:01:30 +02:00", wrong[0].stamped("bar").image)


def test_a_receiver_whose_own_clock_was_not_set_believes_promised_frames():
    start_ms = 90_000  # of a board without a clock, which begins at 1970
    whole = SideInformation(time_high=CAPTURED_MS >> 32)
    promised = replace(frame(1), time_ms=CAPTURED_MS % 2**32, promised=True, side_info=whole)
    assert clock_is_set(promised, start_ms)
    assert clock_is_set(promised, CAPTURED_MS)
    assert not clock_is_set(promised, CAPTURED_MS - 7_200_000)  # then the sender's is ahead
    assert not clock_is_set(frame(1), start_ms)
    assert not clock_is_set(replace(promised, side_info=SideInformation(time_high=0)), start_ms)


def test_a_picture_without_a_time_says_so():
    assert place_of("time not known", stamped("small", captured_ms=None)) is not None

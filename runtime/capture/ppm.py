"""Standard input as a source: binary PPM pictures, one after the other, as programs pipe them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError
from edgesem.packet.packet import MAX_SIDE
from runtime.capture.context import CaptureContext
from runtime.capture.frame import MIN_SIDE, Frame

_MAX_HEADER = 64


def stdin_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pictures of standard input as they come. InputError for anything but PPM."""
    return context.paced(read_ppm(sys.stdin.buffer), 0)


def read_ppm(stream: BinaryIO) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """The binary PPM pictures that come one after the other, as `ffmpeg ... -f image2pipe -c:v ppm -` writes them.

    InputError for anything else; a picture cut short ends it.
    """
    number = 0
    while (size := _read_header(stream)) is not None:
        width, height = size
        data = stream.read(width * height * 3)
        if len(data) < width * height * 3:
            return
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3), f"stdin-{number:06d}"
        number += 1


def _read_header(stream: BinaryIO) -> tuple[int, int] | None:
    """Width and height of the next picture; None at the end."""
    header = b""
    while len(fields := header.split()) < 4 or not header[-1:].isspace():
        byte = stream.read(1)
        if not byte:
            if fields:
                raise InputError("standard input ended inside a picture's header")
            return None
        header += byte
        if len(header) > _MAX_HEADER:
            raise InputError("standard input is not PPM: pipe `ffmpeg ... -f image2pipe -c:v ppm -` into edgesem")
    if fields[0] != b"P6" or not (fields[1].isdigit() and fields[2].isdigit()) or fields[3] != b"255":
        raise InputError("standard input is not binary PPM with 8 bits (P6 ... 255)")
    width, height = int(fields[1]), int(fields[2])
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise InputError(f"standard input has a picture of {width}x{height}, sides must be {MIN_SIDE} to {MAX_SIDE}")
    return width, height

"""Standard input as a source: PNM pictures of 8 bits (PBM, PGM, PPM), one after the other, as programs pipe them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, UsageError
from edgesem.packet.packet import MAX_SIDE
from runtime.capture.context import CaptureContext
from runtime.capture.frame import MIN_SIDE, Frame

_MAX_HEADER = 4096  # comments included
_MAX_LINE = 1 << 16
_BITMAPS, _COLOURS, _PLAIN = (b"P1", b"P4"), (b"P3", b"P6"), (b"P1", b"P2", b"P3")
_GREYS = (b"P2", b"P5")

Picture = NDArray[np.uint8]


def stdin_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pictures of standard input as they come. UsageError if that is a terminal.

    Later InputError for anything but PNM, and for an end without any.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("nothing is piped into edgesem: pipe `ffmpeg ... -f image2pipe -c:v ppm -` into it")
    return _piped_frames(context)


def _piped_frames(context: CaptureContext) -> Iterator[Frame]:
    came = False
    # Not sys.stdin.buffer: a thread that waits in that reader aborts the interpreter at its exit.
    with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
        for frame in context.paced(read_pnm(stream), 0):
            came = True
            yield frame
    if not came and not context.stop.is_set():
        raise InputError("standard input ended before its first picture: see what the program that writes to it says")


def read_pnm(stream: BinaryIO) -> Iterator[tuple[Picture, str]]:
    """The PNM pictures that come one after the other, as `ffmpeg ... -f image2pipe -c:v ppm -` writes them.

    All six kinds are read, P1 to P6, comments in their headers too; values of less than 8 bits are scaled. InputError
    for anything else; a picture cut short ends it.
    """
    number = 0
    while (header := _Header.read(stream)) is not None:
        raster = header.plain_raster(stream) if header.magic in _PLAIN else header.raw_raster(stream)
        if raster is None:
            return
        yield raster, f"stdin-{number:06d}"
        number += 1


class _Header:
    """Kind, size and largest value of a picture, and how its pixels are read."""

    def __init__(self, magic: bytes, width: int, height: int, largest: int) -> None:
        self.magic, self.width, self.height, self.largest = magic, width, height, largest

    @classmethod
    def read(cls, stream: BinaryIO) -> _Header | None:
        """The next header, up to the one byte of space behind it; None at the end."""
        words = _Words(stream)
        magic = words.next(end_is_fine=True)
        if magic is None:
            return None
        if magic not in _BITMAPS + _GREYS + _COLOURS:
            raise InputError("standard input is not PNM: pipe `ffmpeg ... -f image2pipe -c:v ppm -` into edgesem")
        width, height = words.number(), words.number()
        if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
            raise InputError(
                f"standard input has a picture of {width}x{height}, sides must be {MIN_SIDE} to {MAX_SIDE}"
            )
        largest = 1 if magic in _BITMAPS else words.number()
        if not 1 <= largest <= 255:
            raise InputError(
                f"standard input has a picture of values up to {largest}: only 8 bits, up to 255, are read"
            )
        return cls(magic, width, height, largest)

    def raw_raster(self, stream: BinaryIO) -> Picture | None:
        """Its pixels in binary; None if they are cut short."""
        row = -(-self.width // 8) if self.magic in _BITMAPS else self.width * self._channels
        data = stream.read(row * self.height)
        if len(data) < row * self.height:
            return None
        values = np.frombuffer(data, np.uint8).reshape(self.height, row)
        if self.magic in _BITMAPS:
            values = np.unpackbits(values, axis=1)[:, : self.width]
        return self._rgb(values)

    def plain_raster(self, stream: BinaryIO) -> Picture | None:
        """Its pixels in decimal numbers; None if they are cut short."""
        wanted = self.width * self.height * self._channels
        found = bytearray()
        rest = b""
        while len(found) < wanted:
            line = stream.readline(_MAX_LINE)
            ended = not line or line.endswith((b"\n", b"\r"))
            text = rest + line.partition(b"#")[0]
            words = [bytes([digit]) for digit in b"".join(text.split())] if self.magic == b"P1" else text.split()
            rest = b"" if ended or self.magic == b"P1" or text[-1:].isspace() or not words else words.pop()
            if not all(
                word.isdigit() and len(word) <= 3 and int(word) <= self.largest for word in [*words, rest or b"0"]
            ):
                raise InputError(f"standard input has something else than numbers up to {self.largest} in a picture")
            found.extend(map(int, words))
            if not line:
                break
        if len(found) < wanted:
            return None
        if len(found) > wanted or rest:
            raise InputError(f"standard input has more numbers than a picture of {self.width}x{self.height}")
        return self._rgb(np.frombuffer(found, np.uint8))

    @property
    def _channels(self) -> int:
        return 3 if self.magic in _COLOURS else 1

    def _rgb(self, values: Picture) -> Picture:
        """uint8 [H, W, 3], of values from 0 to the largest; in bitmaps 1 is black."""
        values = values.reshape(self.height, self.width, self._channels)
        if self.magic in _BITMAPS:
            values = (1 - values) * np.uint8(255)
        elif self.largest < 255:
            # A raw value may be above the largest
            values = np.rint(values * (255 / self.largest)).clip(0, 255).astype(np.uint8)
        return values if self._channels == 3 else np.repeat(values, 3, axis=2)


class _Words:
    """Words of a header: bytes between spaces, where a comment from # to the end of its line counts as one space."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._taken = stream, 0

    def next(self, *, end_is_fine: bool = False) -> bytes | None:
        """The next word, and the one space behind it; None at the end of the stream, where that is fine."""
        word = b""
        while True:
            byte = self._byte()
            if not byte:
                if end_is_fine and not word:
                    return None
                raise InputError("standard input ended inside a picture's header")
            if not byte.isspace():
                word += byte
            elif word:
                return word

    def number(self) -> int:
        """The next word as a number."""
        word = self.next()
        if word is None or not word.isdigit() or len(word) > 9:
            raise InputError(f"standard input has {word!r} in a picture's header where a number should be")
        return int(word)

    def _byte(self) -> bytes:
        byte = self._read()
        if byte == b"#":
            while byte not in (b"", b"\n", b"\r"):
                byte = self._read()
        return byte

    def _read(self) -> bytes:
        self._taken += 1
        if self._taken > _MAX_HEADER:
            raise InputError("standard input is not PNM: pipe `ffmpeg ... -f image2pipe -c:v ppm -` into edgesem")
        return self._stream.read(1)

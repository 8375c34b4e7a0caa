"""Check of the frames that callers give: another form is refused with the line of code that converts it."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import FrameError
from edgesem.packet.packet import MAX_SIDE

Frame = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""
MIN_SIDE = 16


def check_frame(frame: Any) -> Frame:
    """`frame` itself, if it is uint8 [H, W, 3] with sides of 16 to 4096 pixels. FrameError, with what to do, if not.

    Nothing is converted silently: what white is, or what lies behind an alpha, only the caller knows.
    """
    if not isinstance(frame, np.ndarray):
        raise _wrong(*_form_of(frame))
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        raise _wrong(f"grey, {list(frame.shape)}", "numpy.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)")
    if frame.ndim == 3 and frame.shape[2] == 4:
        raise _wrong(f"{list(frame.shape)}, with an alpha", "numpy.ascontiguousarray(frame[:, :, :3])")
    if frame.ndim == 3 and frame.shape[0] == 3 and frame.shape[2] != 3:
        raise _wrong(f"{list(frame.shape)}, colours first", "numpy.ascontiguousarray(frame.transpose(1, 2, 0))")
    if frame.ndim == 4 and frame.shape[0] == 1:
        raise _wrong(f"a batch of one, {list(frame.shape)}", "frame[0]")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise FrameError(f"a frame must be uint8 [H, W, 3], RGB, got {frame.dtype} {list(frame.shape)}")
    if frame.dtype != np.uint8:
        raise _wrong(f"{frame.dtype}", _to_bytes(frame))
    height, width = frame.shape[:2]
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise FrameError(f"a frame's sides must be {MIN_SIDE} to {MAX_SIDE} pixels, got {width}x{height}: resize it")
    return frame


def _form_of(frame: Any) -> tuple[str, str]:
    """What something is that is no array, and the line that makes one of it."""
    if isinstance(frame, (str, PathLike)):
        return "a path", "edgesem.files.read_picture(pathlib.Path(frame))"
    if isinstance(frame, (bytes, bytearray, memoryview)):
        return "bytes", "numpy.asarray(PIL.Image.open(io.BytesIO(frame)).convert('RGB'))"
    if hasattr(frame, "convert") and hasattr(frame, "getbands"):
        return "a PIL image", "numpy.asarray(frame.convert('RGB'))"
    if isinstance(frame, (list, tuple)):
        return f"a {type(frame).__name__}", "numpy.asarray(frame)"
    if hasattr(frame, "__array__"):
        return f"a {type(frame).__name__}", "numpy.asarray(frame)"
    return f"a {type(frame).__name__}", "edgesem.files.read_picture(pathlib.Path('picture.png'))"


def _to_bytes(frame: npt.NDArray[Any]) -> str:
    """The line that makes 8 bits of another type of number."""
    if frame.dtype == np.bool_:
        return "frame.astype('uint8') * 255"
    if frame.dtype == np.uint16:
        return "(frame >> 8).astype('uint8')"
    if frame.dtype.kind == "f" and (not frame.size or float(frame.max()) <= 1):
        return "(frame * 255).round().clip(0, 255).astype('uint8')"
    if frame.dtype.kind in "fiu":
        return "frame.round().clip(0, 255).astype('uint8')"
    return "frame.astype(float)"


def _wrong(what: str, line: str) -> FrameError:
    return FrameError(f"a frame must be uint8 [H, W, 3], RGB, and this is {what}; convert it: frame = {line}")

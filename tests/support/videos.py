"""Video files, written with PyAV."""

import numpy as np
import pytest


def greys(levels, width=96, height=64):
    """Pictures of one grey each."""
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def write_video(path, pictures, *, rate=10, codec="mpeg4", pix_fmt="yuv420p", options=None):
    """Write pictures, uint8 [H, W, 3], RGB, all of one size, to a file, and return its path."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path

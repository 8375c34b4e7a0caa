"""TIFFs of floats in both byte orders (findings/pillow-reads-big-endian-tiff-swapped.sh)."""

import struct
import zlib

import numpy as np
import pytest

from edgesem.errors import InputError
from edgesem.files import read_picture

PICTURE = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)


def tiff(order: str, *, deflate: bool) -> bytes:
    """PICTURE as a TIFF of one strip. order: "<" or ">"."""
    pixels = PICTURE.astype(f"{order}f4").tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    entries = {
        256: (4, 8),  # width
        257: (4, 8),  # height
        258: (3, 32),  # bits
        259: (3, 8 if deflate else 1),  # compression
        262: (3, 1),  # black is 0
        273: (4, 8),  # where the strip begins
        277: (3, 1),  # samples a pixel
        278: (4, 8),  # rows
        279: (4, len(pixels)),
        339: (3, 3),  # floats
    }
    fields = b"".join(
        struct.pack(f"{order}HHI{'Hxx' if kind == 3 else 'I'}", tag, kind, 1, value)
        for tag, (kind, value) in entries.items()
    )
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(pixels))
    return head + pixels + struct.pack(f"{order}H", len(entries)) + fields + bytes(4)


@pytest.mark.parametrize(("order", "deflate"), [("<", False), ("<", True), (">", False)])
def test_floats_are_read_in_either_byte_order(tmp_path, order, deflate):
    path = tmp_path / "p.tif"
    path.write_bytes(tiff(order, deflate=deflate))

    assert read_picture(path)[..., 0].tolist() == np.rint(PICTURE * 255).tolist()


def test_what_pillow_reads_swapped_is_refused(tmp_path):
    path = tmp_path / "p.tif"
    path.write_bytes(tiff(">", deflate=True))

    with pytest.raises(InputError, match="big-endian"):
        read_picture(path)

"""Library file: whether a shared library is whole. To load one that was cut off kills the process."""

from __future__ import annotations

import struct
from pathlib import Path

_LOADED = 1  # kind of the parts that are mapped


def check_whole(path: Path) -> None:
    """Raise OSError if a 64-bit ELF file is shorter than the parts of it that loading maps, or its header ends early.

    Files of other kinds are not looked at: the system refuses those that it does not know.
    """
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return
    try:
        (table,) = struct.unpack_from("<Q", data, 32)
        each, count = struct.unpack_from("<HH", data, 54)
        for entry in range(table, table + each * count, each or 1):
            kind, _, offset = struct.unpack_from("<IIQ", data, entry)
            (size_bytes,) = struct.unpack_from("<Q", data, entry + 32)
            if kind == _LOADED and offset + size_bytes > len(data):
                raise OSError(f"{path} ends early")
    except (struct.error, OverflowError) as error:
        raise OSError(f"{path} ends within its header") from error

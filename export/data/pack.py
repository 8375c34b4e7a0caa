"""Packed training set: the photographs of a folder in one file, small enough to be moved to where the GPU is.

The file is a tar archive of picture files and nothing else. Where the photographs fit as they are, they are copied;
else each is coded anew as WebP, at the best quality at which all fit.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from edgesem.errors import InputError
from edgesem.files import PICTURE_SUFFIXES, find_pictures, read_picture, write_whole
from edgesem.quality.metrics import Frame
from export.data.pictures import readable_pictures

MOST_BYTES = 60_000_000  # of a packed file
SIDE = 1024  # pixels that the longer side of a picture keeps where pictures are coded anew
_QUALITIES = (95, 92, 88, 84, 80, 75, 70, 60, 50)  # of WebP
_SAMPLE = 24  # pictures that tell which quality to begin with
_BLOCK = 512  # bytes: a header of a tar archive, and what each file is filled up to


def pack(folder: Path, out: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Write the photographs of `folder` to the file `out` of at most `most_bytes`; what came of it.

    Pictures that cannot be read are left out with a warning. Raises InputError if there are none, or if they do not fit
    at the lowest quality.
    """
    paths = [path for path, _ in readable_pictures(find_pictures(folder))]
    names = [str(path.relative_to(folder)) for path in paths]
    plain = all(path.suffix.lower() in PICTURE_SUFFIXES for path in paths)
    if plain and sum(_in_archive(path.stat().st_size) for path in paths) + 20 * _BLOCK <= most_bytes:
        quality, files = None, [path.read_bytes() for path in paths]
    else:
        quality, files = _coded(paths, most_bytes)
        names = [f"{name}.webp" for name in names]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in zip(names, files, strict=True):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    write_whole(out, buffer.getvalue())
    return {"pack": out, "pictures": len(paths), "bytes": len(buffer.getvalue()), "webp_quality": quality}


def training_pictures(place: Path) -> Iterator[tuple[Path, Frame]]:
    """Each picture, uint8 [H, W, 3], of a folder or of a packed file, with its path, as `readable_pictures` gives them.

    Raises InputError if there are none, or if the file holds no packed set.
    """
    with picture_folder(place) as folder:
        yield from readable_pictures(find_pictures(folder))


@contextmanager
def picture_folder(place: Path) -> Iterator[Path]:
    """The folder itself, or one that a packed file lies unpacked in for as long as the context lasts.

    Raises InputError if the file holds no packed set.
    """
    if not place.is_file():
        yield place
        return
    with TemporaryDirectory(prefix="edgesem-pack-") as folder:
        _unpack(place, Path(folder))
        yield Path(folder)


def _unpack(file: Path, folder: Path) -> None:
    """Write the pictures of a packed file into a folder, by number: names in the archive lead nowhere."""
    try:
        with tarfile.open(file, "r:") as archive:
            for index, entry in enumerate(archive):
                suffix = Path(entry.name).suffix.lower()
                source = archive.extractfile(entry) if entry.isreg() and suffix in PICTURE_SUFFIXES else None
                if source is not None:
                    (folder / f"{index:06}{suffix}").write_bytes(source.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(
            f"{file} is neither a folder nor a packed training set ({error}): make one with edgesem train --pack"
        ) from error


def _coded(paths: list[Path], most_bytes: int) -> tuple[int, list[bytes]]:
    """The pictures as WebP of the best quality at which they fit, and that quality."""
    sample = [_shrunk(path) for path in paths[:: max(1, len(paths) // _SAMPLE)]]
    for quality in _QUALITIES:
        expected = sum(_in_archive(len(_webp(frame, quality))) for frame in sample) / len(sample) * len(paths)
        if expected > 1.05 * most_bytes:
            continue
        files = [_webp(_shrunk(path), quality) for path in paths]
        if sum(_in_archive(len(data)) for data in files) + 20 * _BLOCK <= most_bytes:
            return quality, files
    raise InputError(
        f"{len(paths)} pictures do not fit into {most_bytes / 1e6:g} MB even as WebP of quality {_QUALITIES[-1]}: "
        "pack fewer"
    )


def _shrunk(path: Path) -> Frame:
    return read_picture(path, fit=(SIDE, SIDE))


def _webp(frame: Frame, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _in_archive(size: int) -> int:
    """Bytes that a file of that size takes in the archive; names of more than 100 letters take two blocks more."""
    return 3 * _BLOCK + -(-size // _BLOCK) * _BLOCK

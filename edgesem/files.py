"""Pictures and packets on disk: read with limits, and written whole or not at all."""

from __future__ import annotations

import io
import logging
import os
import secrets
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgesem.errors import InputError, PacketError, UsageError
from edgesem.packet.packet import MAX_PACKET_BYTES, MAX_SIDE, Packet
from edgesem.picture import as_shown, has_heic, load_whole, open_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


PICTURE_SUFFIXES = (
    ".avif", ".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
HEIC_SUFFIXES = (".heic", ".heif")
"""Of pictures that can be read where the optional package pillow-heif is installed."""

_MAX_PICTURE_BYTES = 1 << 29

log = logging.getLogger(__name__)

T = TypeVar("T")


def find_pictures(folder: Path) -> list[Path]:
    """The picture files in a folder and below, sorted. Raises InputError if there are none, or it cannot be read.

    HEIC counts where its plugin is installed; elsewhere a warning says that it is left out.
    """
    try:
        os.scandir(folder).close()  # the search finds nothing in what it cannot read, without an error
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    files = picture_files(folder)
    found = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    hint = ""
    if len(found) < len(files):
        if has_heic():
            return files
        hint = f"; {len(files) - len(found)} HEIC pictures there need a plugin: pip install pillow-heif"
        log.warning("%s%s", folder, hint)
    if not found:
        raise InputError(
            f"no pictures ({', '.join(PICTURE_SUFFIXES)}) in {folder}: name a folder that holds some{hint}"
        )
    return found


def picture_files(folder: Path) -> list[Path]:
    """The files in a folder and below that are named as pictures, HEIC too, sorted; none if there are none."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (*PICTURE_SUFFIXES, *HEIC_SUFFIXES))


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, at even distances, from the first to the last."""
    import numpy as np

    return [items[place] for place in np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]


def read_picture(path: Path, *, fit: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture in a file as a browser shows it: uint8 [H, W, 3], sRGB. All commands read pictures with this.

    EXIF orientation and colour profile are applied, what is transparent becomes white, 16 bits become 8: see
    `edgesem.picture.as_shown`. fit: width and height to shrink it to, its aspect kept; it is never enlarged, and no
    side becomes less than 1.

    Raises InputError if it is not a picture, is damaged, or has more than 4096 pixels on a side and `fit` is not given:
    that is seen in the file's header, before a pixel is decoded.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
            raise InputError("it is no file")
        if about.st_size > _MAX_PICTURE_BYTES:
            raise InputError(f"it has more than {_MAX_PICTURE_BYTES >> 20} MB")
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_picture(data) as image:
                if fit is None and max(image.size) > MAX_SIDE:
                    width, height = image.size
                    raise InputError(
                        f"it has {width}x{height} pixels, at most {MAX_SIDE} a side can be coded: shrink it"
                    )
                if fit is not None:
                    image.draft(None, (2 * max(fit), 2 * max(fit)))  # a large JPEG need not be decoded whole
                return np.array(fitted(as_shown(load_whole(image, data)), fit))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} has too many pixels, at most {MAX_SIDE} a side can be coded: shrink it") from error
    except UnidentifiedImageError as error:  # its own words name an object in memory
        why = "its bytes are of no picture format that is read here" if data else "it is empty"
        raise InputError(f"cannot read {path} as a picture: {why}") from error
    except Exception as error:  # ours, or whatever Pillow's readers raise for a damaged file
        raise InputError(f"cannot read {path} as a picture: {error}") from error


def fitted(image: Image, fit: tuple[int, int] | None) -> Image:
    """A picture shrunk to fit a width and height, its aspect kept; it is never enlarged. None: as it is."""
    from PIL.Image import Resampling

    size = image.size if fit is None else fitted_size(*image.size, *fit)
    if size == image.size:
        return image
    return image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def fitted_size(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The size of a picture shrunk to fit, its aspect kept; never enlarged."""
    scale = min(1.0, most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def write_picture(frame: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 [H, W, 3] RGB in the format that the file's ending names, whole or not at all.

    Raises UsageError for an ending that names none, and InputError if the file cannot be written.
    """
    from PIL import Image

    picture_format = picture_format_of(path)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format=picture_format, quality=95)
    write_whole(path, buffer.getvalue())


def picture_format_of(path: Path) -> str:
    """Pillow's name of the format that a file's ending stands for; UsageError if it cannot be written."""
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise UsageError(f"{path}: no picture format for the ending {path.suffix!r}: name it .png, .jpg or .webp")
    return name


def read_packet(path: Path) -> Packet:
    """The packet in a file; InputError if it cannot be read, PacketError if it is not one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PACKET_BYTES + 1)  # one more than a packet can have is enough to refuse it
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_PACKET_BYTES:
        raise PacketError(f"{path} has more than {MAX_PACKET_BYTES} bytes, so it is no packet: name an .es file")
    try:
        return Packet.from_bytes(data)
    except PacketError as error:
        raise type(error)(f"{path}: {error}") from error


def write_whole(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put `data` in a file so that nobody ever sees half of it, not even after a power cut.

    `mode` is of the file, less the umask. Raises InputError if it cannot be written.
    """
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(data)  # /dev/stdout, a pipe: must not be replaced; a folder: is an error
            return
        path = Path(os.path.realpath(path))  # a link stays a link
        part = path.parent / f".edgesem-{secrets.token_hex(8)}.part"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error

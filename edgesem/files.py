"""Pictures and packets on disk: read with limits, written whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgesem.errors import InputError, PacketError, UsageError
from edgesem.packet.packet import MAX_PACKET_BYTES, MAX_SIDE, Packet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


PICTURE_SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_pictures(folder: Path) -> list[Path]:
    """The picture files in a folder and below, sorted. Raises InputError if there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise InputError(f"no pictures ({', '.join(PICTURE_SUFFIXES)}) in {folder}: name a folder that holds some")
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture in a file, upright as its EXIF says: uint8 [H, W, 3], RGB; what is transparent becomes white.

    Raises InputError if it is not a picture, is damaged, or has more than 4096 pixels on a side: that is seen in the
    file's header, before a pixel is decoded.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if max(image.size) > MAX_SIDE:
                    width, height = image.size
                    raise InputError(
                        f"{path} is {width}x{height} pixels, at most {MAX_SIDE} a side can be coded: shrink it"
                    )
                return _rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} has too many pixels, at most {MAX_SIDE} a side can be coded: shrink it") from error
    except Exception as error:  # Pillow's readers let out whatever a damaged file makes them stumble on
        raise InputError(f"cannot read {path} as a picture: {error}") from error


def write_picture(frame: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 [H, W, 3] RGB in the format that the file's ending names."""
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


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in a file so that nobody ever sees half of it, not even after a power cut."""
    path = Path(os.path.realpath(path))  # a link stays a link
    part = path.parent / f".edgesem-{secrets.token_hex(8)}.part"
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            path.write_bytes(data)  # /dev/stdout, a pipe: must not be replaced; a folder: is an error
            return
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _rgb(image: Image) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them at 255
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))

"""Pixels of a picture file as a browser shows them: upright, in sRGB, 8 bits, over white where it is transparent.

Pixel aspect ratios and gamma marks of pictures are left alone, as browsers do. Of an animation the first is read.
"""

from __future__ import annotations

import io
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from edgesem.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL._imagingcms import CmsProfile
    from PIL.Image import Image

BACKGROUND = "white"  # behind what is transparent

_ORIENTATION = 0x0112
_END_OF_JPEG = b"\xff\xd9"
_FILLS = (b"", b"\x5a", b"\xa5", b"\xfe", b"\x01")
_FILL_BYTES = 1024
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_NARROW_SHARE = 1 / 16

log = logging.getLogger(__name__)


def open_picture(data: bytes) -> Image:
    """The picture in a file's bytes, its header read. InputError for HEIC without its plugin; else Pillow's errors."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if data[4:8] != b"ftyp" or data[8:12] not in _HEIC_BRANDS:
            raise
    if not has_heic():
        raise InputError(
            "it is HEIC, as phones make it, which needs a plugin: pip install pillow-heif, or convert it to JPEG"
        )
    return Image.open(io.BytesIO(data))


@lru_cache
def has_heic() -> bool:
    """Whether the optional package pillow-heif is here; it is then in use."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return False
    register_heif_opener()
    return True


def load_whole(image: Image, data: bytes) -> Image:
    """The picture with its pixels decoded. A JPEG that lacks only its end mark is whole; OSError for one cut shorter.

    What was cut off is found out by putting something else there: if that does not change a pixel, nothing is missing.
    """
    from PIL import Image

    try:
        image.load()
        return image
    except OSError as error:
        if image.format not in ("JPEG", "MPO") or _END_OF_JPEG in data[-64:]:
            raise
        shown = None
        for fill in _FILLS:
            attempt = Image.open(io.BytesIO(data.rstrip(b"\xff") + fill * _FILL_BYTES + _END_OF_JPEG))
            attempt.draft(None, image.size)
            try:
                attempt.load()
            except OSError:
                raise error from None
            if shown is not None and attempt.tobytes() != shown.tobytes():
                raise
            shown = attempt
        assert shown is not None
        return shown


def as_shown(image: Image) -> Image:
    """A loaded picture as it is to be seen, in mode RGB.

    EXIF orientation is applied, the colour profile converted to sRGB (one that cannot be read is ignored), 16 bits of
    grey become the upper 8, floats from 0 to 1 become 0 to 255, and white lies behind what is transparent. InputError
    for floats or 32-bit integers beyond that: which of them is white, only their maker knows.
    """
    from PIL import Image

    _refuse_swapped(image)
    turned = _upright(image)
    profile = turned.info.get("icc_profile")
    if turned.mode == "F" or turned.mode.startswith("I"):
        shown = _eight_bits(turned)
        return _in_srgb(shown, profile)
    if not turned.has_transparency_data:
        return _in_srgb(turned, profile)
    layered = turned if turned.mode == "LA" else turned.convert("RGBA")
    colours = _in_srgb(layered.convert("L" if turned.mode == "LA" else "RGB"), profile)
    return Image.composite(colours, Image.new("RGB", turned.size, BACKGROUND), layered.getchannel("A"))


def _refuse_swapped(image: Image) -> None:
    """InputError for a big-endian TIFF of floats or 32-bit integers, compressed: Pillow swaps its bytes twice."""
    if image.format != "TIFF" or image.mode not in ("F", "I"):
        return
    from PIL.TiffImagePlugin import MM, TiffImageFile

    swapped = isinstance(image, TiffImageFile) and image.tag_v2.prefix == MM
    if swapped and image.info.get("compression", "raw") != "raw":
        raise InputError(
            "it is a big-endian, compressed TIFF of floats or signed integers, which Pillow reads wrongly: save it "
            "little-endian, or without compression"
        )


def _upright(image: Image) -> Image:
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF takes nothing from the picture
        return image
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits, or of floats from 0 to 1, in mode L."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if image.mode == "F":
        if not 0 <= low <= high <= 1:  # also where one is no number
            raise InputError(f"its pixels are floats from {low:g} to {high:g}: scale them to 0 to 1, or save 8 bits")
        return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))
    if image.mode == "I" and (image.format not in ("PNG", "PPM", None) or not 0 <= low <= high <= 0xFFFF):
        raise InputError(f"its pixels are 32-bit integers from {low:g} to {high:g}: save it with 8 or 16 bits")
    if high - low < _NARROW_SHARE * 0xFFFF and high > low:
        _say_narrow()
    return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))


@lru_cache
def _say_narrow() -> None:
    log.warning(
        "a picture of 16 bits uses less than a sixteenth of its greys, as those of thermal cameras do: it is shown as "
        "it is, with little contrast; stretch such pictures before (magick -normalize, or ffmpeg's filter normalize)"
    )


def _in_srgb(image: Image, profile: bytes | None) -> Image:
    """A picture in mode RGB, its colours converted from a profile to sRGB."""
    if not profile:
        return image.convert("RGB")
    try:
        from PIL import ImageCms

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}[source.profile.xcolor_space.strip()]
        if mode != image.mode and not (mode == "RGB" and image.mode in ("1", "L", "P")):
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image.convert(mode),
            source,
            _srgb(),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # a damaged profile, or a Pillow without LittleCMS: as browsers do, without it
        return image.convert("RGB")
    assert converted is not None
    return converted


@lru_cache
def _srgb() -> CmsProfile:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


def as_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of a picture (BT.601, as in JPEG) in all three channels: uint8 [H, W, 3] of the same shape."""
    import numpy as np
    from PIL import Image

    luma = np.asarray(Image.fromarray(picture).convert("L"))
    return np.ascontiguousarray(np.broadcast_to(luma[..., None], picture.shape))

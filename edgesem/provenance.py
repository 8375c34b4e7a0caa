"""Provenance record in a decoded picture: that it was generated, from how many bytes, by which bundle, and how.

PNG carries it as a text chunk, JPEG, WebP, AVIF and TIFF in EXIF; `edgesem info PICTURE` reads it back.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError
from edgesem.packet.capture_time import capture_text, utc_text

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle
    from edgesem.packet.packet import Packet

KEY = "edgesem"
_SOFTWARE, _DESCRIPTION, _USER_COMMENT = 0x0131, 0x010E, 0x9286
_EXIF = 0x8769
_ASCII = b"ASCII\0\0\0"
_EXIF_FORMATS = ("JPEG", "WEBP", "TIFF", "AVIF")
_MAX_BYTES = 4096

# The digital source type that C2PA and IPTC name for pictures that are partly made by a trained model.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True)
class Provenance:
    """How a picture was made. generated: always true; with steps, details in it were never sent."""

    bytes: int
    layers: int
    total_layers: int
    q: int
    steps: int
    seed: int
    realism: float
    bundle: str
    bundle_digest: str
    epoch: int = 0
    frame: int = 0
    decoder: str = "small"
    """Which base decoder drew it, small or large."""
    captured: str = ""
    """Capture time in UTC, with its date; empty where the packet does not say."""
    part: str = ""
    """Of a detail, which part it is of the camera's picture: left,top,width,height in shares; empty of a whole one."""
    generated: bool = True
    source_type: str = SOURCE_TYPE

    @classmethod
    def of(
        cls,
        packet: Packet,
        bundle: Bundle,
        *,
        steps: int = 0,
        seed: int = 0,
        realism: float = 1.0,
        decoder: str = "small",
        captured_ms: int | None = None,
    ) -> Provenance:
        """The record of a packet's picture, as it is drawn with these options.

        captured_ms: capture time in Unix milliseconds, where it is known better than from the packet now.
        """
        captured = capture_text(packet) if captured_ms is None else utc_text(captured_ms)
        return cls(
            bytes=packet.size_bytes,
            layers=len(packet.chunks),
            total_layers=packet.total_layers,
            q=packet.q,
            steps=steps,
            seed=seed,
            realism=realism,
            decoder=decoder,
            bundle=str(bundle.manifest.get("name") or ""),
            bundle_digest=bundle.digest,
            epoch=packet.epoch,
            frame=packet.frame,
            captured=captured or "",
            part="" if packet.side_info.detail is None else ",".join(f"{one:g}" for one in packet.side_info.detail.roi),
        )

    def to_text(self) -> str:
        """The record as JSON, as it stands in a picture."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Provenance:
        """What `to_text` wrote. InputError for anything else, whatever it is."""
        try:
            if len(text) > _MAX_BYTES:
                raise ValueError("it is too long")
            said = json.loads(text)
            if isinstance(said, dict) and "captured" not in said:  # of version 0.1, whose clock had no date
                said = {key: value for key, value in said.items() if key != "time_ms"} | {"captured": ""}
            if isinstance(said, dict):
                said.setdefault("part", "")  # of a program that knew no details
            kinds: dict[str, Any] = {field.name: type(getattr(_EXAMPLE, field.name)) for field in fields(cls)}
            wrong = [name for name in kinds if type(said[name]) is not kinds[name]]
            if wrong or set(said) != set(kinds):
                raise ValueError(f"{', '.join(wrong) or 'an unknown entry'} is not what it should be")
            return cls(**said)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"the provenance record in the picture cannot be read: {error}") from error


_EXAMPLE = Provenance(0, 0, 0, 0, 0, 0, 1.0, "", "")


def encode_with_provenance(
    frame: npt.NDArray[np.uint8], picture_format: str, provenance: Provenance, *, quality: int = 95
) -> bytes:
    """The bytes of a picture file, uint8 [H, W, 3] RGB, in a format that Pillow names, with the record in it."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer, name = io.BytesIO(), {"JPG": "JPEG"}.get(picture_format.upper(), picture_format.upper())
    more: dict[str, Any] = {}
    if name == "PNG":
        more["pnginfo"] = PngInfo()
        more["pnginfo"].add_text(KEY, provenance.to_text())
        more["pnginfo"].add_text("Software", "edgesem")
        more["compress_level"] = 3  # twice as fast as the default level of 6, a tenth larger
    elif name in _EXIF_FORMATS:
        exif = Image.Exif()
        exif[_SOFTWARE] = "edgesem"
        exif[_DESCRIPTION] = "generated from a semantic packet, not a photograph"
        exif.get_ifd(_EXIF)[_USER_COMMENT] = _ASCII + provenance.to_text().encode()
        more["exif"] = exif.tobytes()
    if name in ("JPEG", "WEBP", "AVIF"):
        more["quality"] = quality
    Image.fromarray(frame).save(buffer, format=name, **more)
    return buffer.getvalue()


def read_provenance(path: Path) -> Provenance | None:
    """The record in a picture file; None if it has none of edgesem's. InputError if it is no picture."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(KEY) if image.format == "PNG" else None
            if text is None:
                comment = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
                raw = comment if isinstance(comment, bytes) else str(comment).encode()
                if image.getexif().get(_SOFTWARE) == "edgesem":
                    text = raw.removeprefix(_ASCII).decode("ascii", "replace")
    except Exception as error:  # Pillow's readers let out whatever a damaged file makes them stumble on
        raise InputError(f"cannot read {path} as a picture: {error}") from error
    return None if text is None else Provenance.from_text(text)

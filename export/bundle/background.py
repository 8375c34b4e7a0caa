"""Background pictures for a fixed camera: made of its frames, put into a copy of a bundle, measured on other frames.

Nothing is trained: the middle value of each pixel over the frames is the place without what passes through it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from edgesem.bundle.bundle import BACKGROUNDS, GOLDEN, Bundle
from edgesem.codec.codec import Codec
from edgesem.codec.options import PackOptions
from edgesem.errors import InputError, UsageError
from edgesem.files import find_pictures, fitted, read_picture, write_whole
from edgesem.packet.keys import Identity
from edgesem.packet.packet import Packet
from edgesem.quality.metrics import Frame, bd_rate, ms_ssim, ms_ssim_db, psnr
from edgesem.video import sample_video
from export.bundle.folder import check_replaceable, check_signed, copied, replace_folder, seal
from export.data.clips import background_of

QUALITY = 0.6  # of a background picture: with finer ones, keyframes of two fixed cameras were up to 3 % larger
FRAMES = 25  # of which the middle is taken
CHECKED = 16  # frames that the gain is measured on, at most
_LEAST_FRAMES = 3
_QUALITIES = (0.1, 0.25, 0.4, 0.55, 0.7)

Progress = Callable[[str, float], None]


def camera_frames(data: Path, fit: tuple[int, int] | None = None, most: int = FRAMES) -> list[Frame]:
    """At most `most` frames, uint8 [H, W, 3], of a folder of pictures or a clip, spread over it.

    fit: width and height to shrink them to, their aspect kept. Raises InputError where there are none,
    MissingDependency for a clip without PyAV.
    """
    if data.is_dir():
        paths = find_pictures(data)
        spread = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)
        return [read_picture(paths[index], fit=fit) for index in spread]
    return [np.array(fitted(Image.fromarray(one.rgb()), fit)) for one in sample_video(data, most)]


def add_background(
    bundle: Bundle, frames: Sequence[Frame], out: Path, progress: Progress, identity: Identity | None = None
) -> dict[str, Any]:
    """Write a copy of a bundle with one more background picture to the folder `out`; returns what there is to say.

    Its number is another one: who sends with it is understood by receivers that have it. Raises UsageError for a bundle
    that is full, that codes no inter frames, or that is signed when nobody signs the copy, and InputError for fewer
    than three frames, for frames of several sizes, or where `out` is something else than a bundle.
    """
    check_replaceable(out)
    out = Path(os.path.realpath(out))  # behind a link there may be another disk, and no folder is moved to that
    if not bundle.has_reference:
        raise UsageError(f"{bundle.folder} cannot refer to other pictures: export it with --reference")
    if len(bundle.backgrounds) == len(BACKGROUNDS):
        raise UsageError(f"{bundle.folder} has {len(BACKGROUNDS)} background pictures, and no room for more")
    check_signed(bundle, identity)
    if len(frames) < _LEAST_FRAMES:
        raise InputError(f"{len(frames)} frames do not tell what passes: give at least {_LEAST_FRAMES}, of some hours")
    sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise InputError(f"a background picture needs frames of one size, these are {' and '.join(sizes[:2])}")
    progress("making the picture", 0.1)
    picture = background_of(frames)
    number = len(bundle.backgrounds)
    with Codec(bundle) as codec:
        options = PackOptions(background=False)
        packet = codec.pack(codec.analyze(picture), quality=QUALITY, options=options)
    data = replace(packet, bundle_id=bundle.plain_id).to_bytes()
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as place:
        work = copied(bundle.folder, Path(place) / "bundle")
        (work / BACKGROUNDS[number]).write_bytes(data)
        made = seal(work, bundle.manifest)
        _restamp(work / GOLDEN, made.id)
        seal(work, bundle.manifest, identity)
        replace_folder(work, out, copy=False)
    height, width = picture.shape[:2]
    about = {"number": number, "width": width, "height": height, "size_bytes": len(data), "frames": len(frames)}
    return {"bundle_id": made.id, "background": about}


def _restamp(golden: Path, bundle_id: int) -> None:
    """Give golden packets the number of their bundle; what they decode to is the same."""
    if not golden.exists():
        return
    entries = json.loads(golden.read_text())
    for entry in entries:
        packet = Packet.from_bytes(bytes.fromhex(entry["packet"]))
        entry["packet"] = replace(packet, bundle_id=bundle_id).to_bytes().hex()
    write_whole(golden, (json.dumps(entries, indent=1) + "\n").encode())


def saving(bundle: Bundle, frames: Sequence[Frame], before: Bundle, progress: Progress) -> dict[str, Any]:
    """Bytes of keyframes of a bundle over those of the one `before` at equal quality, in percent; less is better.

    Real packets at five qualities, the mean of all frames; a judge that shares no quality gives None.
    """
    curves: list[dict[str, list[tuple[float, float]]]] = []
    for part, measured in enumerate((before, bundle)):
        curve: dict[str, list[tuple[float, float]]] = {"ms_ssim": [], "psnr": []}
        with Codec(measured) as codec:
            latents = [codec.analyze(frame) for frame in frames]
            for index, quality in enumerate(_QUALITIES):
                progress("measuring", (part + index / len(_QUALITIES)) / 2)
                packets = [codec.pack(latent, quality=quality) for latent in latents]
                pairs = [(frame, codec.decode(one.to_bytes())) for frame, one in zip(frames, packets, strict=True)]
                size_bytes = float(np.mean([one.size_bytes for one in packets]))
                similar = float(np.mean([ms_ssim(*pair) for pair in pairs]))
                curve["ms_ssim"].append((size_bytes, ms_ssim_db(similar)))
                curve["psnr"].append((size_bytes, float(np.mean([psnr(*pair) for pair in pairs]))))
        curves.append(curve)
    found = {judge: bd_rate(curves[0][judge], curves[1][judge]) for judge in curves[0]}
    return {
        f"keyframe_bytes_{judge}_percent": None if rate is None else round(rate.percent, 1)
        for judge, rate in found.items()
    }

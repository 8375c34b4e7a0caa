"""Command add-background: gives a bundle a picture of the place that a fixed camera sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgesem.cli.console import emit, table
from export.cli.bundle import identity_of
from export.cli.options import BundleOption, JsonOption, SignOption, parsed_size, stage_progress

SizeOption = Annotated[
    str, typer.Option(metavar="WxH", help="Size that frames are shrunk to fit: the sender's source.width and height.")
]
DEFAULT_SIZE = "640x480"


def add_background(
    data: Annotated[Path, typer.Option(help="Frames of the camera, over some hours: a folder of pictures, or a clip.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; a bundle there is replaced.")],
    bundle: BundleOption = None,
    size: SizeOption = DEFAULT_SIZE,
    check: Annotated[
        Path | None, typer.Option(help="Frames of another hour, to measure the gain on.", show_default="not measured")
    ] = None,
    sign: SignOption = None,
    json_: JsonOption = False,
) -> None:
    """Add a picture of the place to a copy of a bundle, so that keyframes of a fixed camera cost less.

    A keyframe then codes only what differs from that picture, and needs no other frame. Sender and receiver both need
    the new bundle. Several pictures, such as by day and by night, are added one after the other; the sender takes the
    most alike. Frames of other sizes, and of other places, are coded as before.

    Example: edgesem add-background --data frames --out mine
    """
    from edgesem.bundle.bundle import Bundle
    from export.bundle.background import CHECKED, camera_frames, saving
    from export.bundle.background import add_background as add

    before, identity, fit = Bundle.open(bundle), identity_of(sign), parsed_size(size)
    with stage_progress("reading frames") as show:
        held_out = [] if check is None else camera_frames(check, fit, CHECKED)
        found = add(before, camera_frames(data, fit), out, show, identity)
        if held_out:
            found["check"] = {"frames": len(held_out), **saving(Bundle.open(out), held_out, before, show)}
    emit({"bundle": out, **found}, json_, _render)


def _render(report: Mapping[str, Any]) -> Table:
    about = report["background"]
    rows = [
        ("background picture", f"number {about['number']}, {about['width']}x{about['height']}"),
        ("made of", f"{about['frames']} frames, {about['size_bytes']} bytes"),
        ("bundle's number", str(report["bundle_id"])),
    ]
    for judge, name in (("ms_ssim", "MS-SSIM"), ("psnr", "PSNR")):
        percent = report.get("check", {}).get(f"keyframe_bytes_{judge}_percent")
        if percent is not None:
            rows.append(
                (f"keyframes at equal {name}", f"{percent:+.1f} % bytes, {report['check']['frames']} other frames")
            )
    return table(("", ""), rows, str(report["bundle"]))

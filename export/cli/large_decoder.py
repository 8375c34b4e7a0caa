"""Command add-decoder: gives a bundle a second, larger base decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgesem.cli.console import emit, table
from export.cli.bundle import calibration_frames, identity_of
from export.cli.options import WEIGHTS, JsonOption, SignOption, own_bundle, stage_progress


def add_decoder(
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that gets it.")],
    data: Annotated[Path, typer.Option(help="Folder of real pictures, to measure on.")],
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN|FILE",
            help="Run of train --decoder-large, or a file of its weights.",
            show_default="decoder_large.safetensors of the checkout, for the bundle that ships",
        ),
    ] = None,
    codec: Annotated[
        Path | None,
        typer.Option(
            help="Run or weights of the codec that it was trained for.",
            show_default="where it was at the training, or codec.safetensors beside FILE",
        ),
    ] = None,
    sign: SignOption = None,
    json_: JsonOption = False,
) -> None:
    """Add a large decoder to a bundle, for receivers that are computers, and say what it gains and costs.

    Packets, senders and the bundle's number stay as they are. `edgesem receive --decoder` chooses which one draws.

    Example: edgesem add-decoder --bundle bundle --data photos
    """
    from edgesem.bundle.bundle import Bundle
    from export.bundle.large_decoder import add_large_decoder

    opened = Bundle.open(own_bundle(bundle))
    with stage_progress("reading photographs") as show:
        frames = calibration_frames(data)
        weights = run or WEIGHTS / "decoder_large.safetensors"
        found = add_large_decoder(opened, weights, frames, show, identity_of(sign), codec)
    emit({"bundle": bundle, **found}, json_, _render)


def _render(report: Mapping[str, Any]) -> Table:
    rows = [
        ("size", f"{report['size_bytes'] / 1e6:.2f} MB"),
        ("multiply-adds", f"{report['kmac_per_pixel']:.1f} thousand a pixel"),
        ("bytes at equal MS-SSIM", f"{report['bd_rate_ms_ssim_percent']:+.1f} %"),
        ("bytes at equal PSNR", f"{report['bd_rate_psnr_percent']:+.1f} %"),
        ("time", f"{report['times_as_long']:.1f} times that of the small decoder"),
    ]
    return table(("large decoder", "against the small one"), rows, str(report["bundle"]))

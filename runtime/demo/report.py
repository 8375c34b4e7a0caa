"""Report of a demo: its table, its contact sheet and its files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.table import Table
from rich.text import Text

from edgesem.files import write_whole
from runtime.demo.compare import Jpeg
from runtime.demo.progress import Progress
from runtime.demo.sheet import Cell, draw_sheet

CONTACT_SHEET = "contact_sheet.png"
REPORT = "report.json"


def rate_text(rate_bps: float | None) -> str:
    """A rate in bit/s as text, such as `64 kbit/s`."""
    if rate_bps is None:
        return "unknown"
    return f"{rate_bps / 1e6:.3g} Mbit/s" if rate_bps >= 1e6 else f"{rate_bps / 1e3:.3g} kbit/s"


def table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Table with one line a picture, with what is known of it so far; fits a terminal of 80 columns."""
    view = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    view.add_column("#", justify="right", min_width=3, no_wrap=True)
    view.add_column("picture", no_wrap=True, width=15)
    for name in ("budget", "bytes", "bpp", "layers", "delay s", "PSNR", "MS-SSIM"):
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        view.add_row(
            str(row["frame"] + 1),
            Text(row["name"]),  # a file's name, in which brackets are no markup
            _cell(row, "budget_bytes", "{:,}"),
            _cell(row, "sent_bytes", "{:,}"),
            _cell(row, "bpp", "{:.3f}"),
            f"{row['layers_acknowledged']}/{row['layers_packed']}" if "layers_packed" in row else "",
            _cell(row, "delay_s", "{:.2f}"),
            _cell(row, "psnr_db", "{:.1f}"),
            _cell(row, "ms_ssim", "{:.4f}"),
        )
    return view


def _cell(row: Mapping[str, Any], name: str, form: str) -> str:
    return form.format(row[name]) if row.get(name) is not None else ""


def draw(progress: Progress, title: str, subtitle: str) -> Image.Image:
    """Contact sheet of all pictures."""
    lines = []
    redrawn = any("one_step" in row for row in progress.rows)
    for row, (original, jpeg, received) in zip(progress.rows, progress.compare(), strict=True):
        height, width = original.shape[:2]
        lines.append(
            [
                Cell(original, row["name"], f"{width}x{height}, {width * height * 3:,} bytes as pixels, 24 bpp"),
                _jpeg_cell(row, jpeg),
                _received_cell(row, received),
                *([_redrawn_cell(row, progress.redrawn(row["frame"]))] if redrawn else []),
            ]
        )
    columns = ["original", "JPEG of the same bytes", "edgesem, received", "the same, redrawn in one step"]
    return draw_sheet(title, subtitle, columns[: 4 if redrawn else 3], lines)


def _jpeg_cell(row: Mapping[str, Any], jpeg: Jpeg | None) -> Cell:
    if jpeg is None:
        return Cell(None, "", "")
    measured = row["jpeg"]
    remark = f"quality {jpeg.quality}" if jpeg.fits else "the smallest there is"
    return Cell(jpeg.image, f"{jpeg.size_bytes:,} bytes, {measured['bpp']:.3f} bpp", f"{remark}, {_quality(measured)}")


def _received_cell(row: Mapping[str, Any], received: NDArray[np.uint8] | None) -> Cell:
    if received is None:
        return Cell(None, "not received", "")
    return Cell(received, f"{row['size_bytes']:,} bytes, {row['bpp']:.3f} bpp", _quality(row))


def _redrawn_cell(row: Mapping[str, Any], redrawn: NDArray[np.uint8] | None) -> Cell:
    if redrawn is None:
        return Cell(None, "", "")
    return Cell(redrawn, f"the same {row['size_bytes']:,} bytes", _quality(row["one_step"]))


def _quality(measured: Mapping[str, Any]) -> str:
    psnr_db = measured["psnr_db"]
    return f"MS-SSIM {measured['ms_ssim']:.3f}, {'exact' if psnr_db is None else f'{psnr_db:.1f} dB'}"


def write_files(out: Path, sheet: Image.Image, report: Mapping[str, Any]) -> None:
    """Write contact sheet and report, each whole or not at all."""
    picture = io.BytesIO()
    sheet.save(picture, format="PNG")
    write_whole(out / CONTACT_SHEET, picture.getvalue())
    write_whole(out / REPORT, (json.dumps(report, indent=2) + "\n").encode())

"""What a demo found out: the facts of each picture as they come in, the report, its table and its contact sheet."""

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

from edgesem.files import write_whole
from runtime.demo.compare import Jpeg, jpeg_within, measure
from runtime.demo.sheet import Cell, draw_sheet

CONTACT_SHEET = "contact_sheet.png"
REPORT = "report.json"
_OF_SENDER = ("budget_bytes", "capacity_bps", "layers_packed", "q", "analyze_s", "pack_s")
_OF_RECEIVER = ("layers", "decode_s", "delay_s")


class Facts:
    """What is known so far: a row for each picture, and what each process said of itself."""

    def __init__(self, names: Sequence[str], originals: Sequence[Path]) -> None:
        self.rows: list[dict[str, Any]] = [{"frame": number, "name": name} for number, name in enumerate(names)]
        self.said: dict[str, dict[str, Any]] = {}
        """By process, what came with `ready` and `done`."""
        self.phase = "starting"
        self._originals = [read_pixels(path) for path in originals]
        self._received: dict[int, NDArray[np.uint8]] = {}
        self._drawn: dict[int, NDArray[np.uint8]] = {}
        self._done: set[str] = set()

    def ended(self, who: str) -> bool:
        """Whether that process has said that it is done."""
        return who in self._done

    def take(self, who: str, event: Mapping[str, Any]) -> None:
        """Note what a child process told; a received picture is measured against its original."""
        kind = event["event"]
        if kind in ("ready", "done"):
            self._done |= {who} if kind == "done" else set()
            self.said.setdefault(who, {}).update({key: event[key] for key in event if key != "event"})
        elif 0 <= event.get("frame", -1) < len(self.rows):
            getattr(self, f"_take_{kind}")(self.rows[event["frame"]], event)

    def _take_packed(self, row: dict[str, Any], event: Mapping[str, Any]) -> None:
        row.update({name: event[name] for name in _OF_SENDER}, layers_sent=0, sent_bytes=0, layers_acknowledged=0)

    def _take_sent(self, row: dict[str, Any], event: Mapping[str, Any]) -> None:
        row["layers_sent"] += event["layers"]
        row["sent_bytes"] += event["size_bytes"]

    def _take_acked(self, row: dict[str, Any], event: Mapping[str, Any]) -> None:
        row["layers_acknowledged"] += event["layers"]
        if event["layer"] == 0:
            row["base_delay_s"] = event["delay_s"]

    def _take_picture(self, row: dict[str, Any], event: Mapping[str, Any]) -> None:
        received, original = read_pixels(Path(event["file"])), self._originals[row["frame"]]
        self._received[row["frame"]] = received
        row.update({name: event[name] for name in _OF_RECEIVER}, file=f"received/{Path(event['file']).name}")
        row.update(width=original.shape[1], height=original.shape[0])
        row.update(measure(original, received, event["size_bytes"]))

    def _take_drawn(self, row: dict[str, Any], event: Mapping[str, Any]) -> None:
        drawn = self._drawn[row["frame"]] = read_pixels(Path(event["file"]))
        measured = measure(self._originals[row["frame"]], drawn, row["size_bytes"])
        file = f"received/one-step/{Path(event['file']).name}"
        row["one_step"] = {"file": file, "decode_s": event["decode_s"], **measured}

    def counts(self) -> dict[str, Any]:
        """How many pictures and layers went and came; `ok` if none was lost and each was acknowledged."""
        sent = sum(row.get("layers_sent", 0) for row in self.rows)
        acknowledged = sum(row.get("layers_acknowledged", 0) for row in self.rows)
        lost = len(self.rows) - len(self._received)
        return {
            "ok": lost == 0 and sent == acknowledged and sent > 0,
            "pictures": len(self.rows),
            "lost": lost,
            "layers_sent": sent,
            "layers_acknowledged": acknowledged,
        }

    def drawn(self, row: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """The picture of a row as one step of the flow decoder drew it."""
        return self._drawn.get(row["frame"])

    def compare(self) -> list[tuple[NDArray[np.uint8], Jpeg | None, NDArray[np.uint8] | None]]:
        """Original, JPEG and received of each picture; the JPEG's measures go into its row."""
        triples = []
        for row, original in zip(self.rows, self._originals, strict=True):
            jpeg = None
            if row["frame"] in self._received:
                jpeg = jpeg_within(original, row["size_bytes"])
                row["jpeg"] = {
                    "quality": jpeg.quality,
                    "fits": jpeg.fits,
                    **measure(original, jpeg.image, jpeg.size_bytes),
                }
            triples.append((original, jpeg, self._received.get(row["frame"])))
        return triples


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """The picture in a file of ours: uint8 [H, W, 3], RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rate_text(rate_bps: float | None) -> str:
    """A rate as people say it."""
    if rate_bps is None:
        return "unknown"
    return f"{rate_bps / 1e6:.3g} Mbit/s" if rate_bps >= 1e6 else f"{rate_bps / 1e3:.3g} kbit/s"


def table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One line a picture, with what is known of it so far; fits a terminal of 80 columns."""
    view = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    view.add_column("#", justify="right", min_width=3, no_wrap=True)
    view.add_column("picture", no_wrap=True, width=15)
    for name in ("budget", "bytes", "bpp", "layers", "delay s", "PSNR", "MS-SSIM"):
        view.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        view.add_row(
            str(row["frame"] + 1),
            row["name"],
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


def draw(facts: Facts, title: str, subtitle: str) -> Image.Image:
    """The contact sheet of all pictures."""
    lines = []
    redrawn = any("one_step" in row for row in facts.rows)
    for row, (original, jpeg, received) in zip(facts.rows, facts.compare(), strict=True):
        height, width = original.shape[:2]
        lines.append(
            [
                Cell(original, row["name"], f"{width}x{height}, {width * height * 3:,} bytes as pixels, 24 bpp"),
                _jpeg_cell(row, jpeg),
                _received_cell(row, received),
                *([_drawn_cell(row, facts.drawn(row))] if redrawn else []),
            ]
        )
    columns = ["original", "JPEG of the same bytes", "edgesem, received", "the same, redrawn in one step"]
    return draw_sheet(title, subtitle, columns[: 4 if redrawn else 3], lines)


def _jpeg_cell(row: Mapping[str, Any], jpeg: Jpeg | None) -> Cell:
    if jpeg is None:
        return Cell(None, "", "")
    told = row["jpeg"]
    remark = f"quality {jpeg.quality}" if jpeg.fits else "the smallest there is"
    return Cell(jpeg.image, f"{jpeg.size_bytes:,} bytes, {told['bpp']:.3f} bpp", f"{remark}, {_quality(told)}")


def _received_cell(row: Mapping[str, Any], received: NDArray[np.uint8] | None) -> Cell:
    if received is None:
        return Cell(None, "not received", "")
    return Cell(received, f"{row['size_bytes']:,} bytes, {row['bpp']:.3f} bpp", _quality(row))


def _drawn_cell(row: Mapping[str, Any], drawn: NDArray[np.uint8] | None) -> Cell:
    if drawn is None:
        return Cell(None, "", "")
    return Cell(drawn, f"the same {row['size_bytes']:,} bytes", _quality(row["one_step"]))


def _quality(measured: Mapping[str, Any]) -> str:
    psnr_db = measured["psnr_db"]
    return f"MS-SSIM {measured['ms_ssim']:.3f}, {'exact' if psnr_db is None else f'{psnr_db:.1f} dB'}"


def write_files(out: Path, sheet: Image.Image, report: Mapping[str, Any]) -> None:
    """Write contact sheet and report, each whole or not at all."""
    picture = io.BytesIO()
    sheet.save(picture, format="PNG")
    write_whole(out / CONTACT_SHEET, picture.getvalue())
    write_whole(out / REPORT, (json.dumps(report, indent=2) + "\n").encode())

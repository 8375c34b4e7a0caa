"""The command `edgesem demo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from runtime.cli.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runtime.demo.progress import Progress


def demo(
    link: Annotated[str, typer.Option(help="Rate of the thin link, such as 20kbit, 64kbit or 1mbit.")] = "64kbit",
    out: Annotated[Path, typer.Option(help="Folder for pictures, contact sheet and report.")] = Path("edgesem-demo"),
    source: Annotated[
        Path | None,
        typer.Option(
            help="Your own pictures: a folder, or a video file.", show_default="photographs that ship with edgesem"
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=60, help="At most so many pictures, evenly spread.")] = 14,
    interval: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds from one picture to the next.")] = 1.0,
    bundle: BundleOption = None,
    json_: JsonOption = False,
) -> None:
    """Watch real photographs cross a thin link, all on this machine.

    Starts an MQTT broker on loopback, a sender and a receiver, and shapes the way between them to --link. Writes the
    received pictures, a contact sheet beside JPEG, and report.json.

    Example: edgesem demo --link 20kbit
    """
    from edgesem.trace import parse_rate_bps
    from runtime.demo.demo import run_demo
    from runtime.demo.transfer import Options

    options = Options(
        rate_bps=parse_rate_bps(link), out=out, source=source, frames=frames, interval_s=interval, bundle=bundle
    )
    with _Display(link) as display:
        report = run_demo(options, display.show)
    emit(report, json_, _render)
    if not report["ok"]:
        raise typer.Exit(1)


class _Display:
    """The live table on stderr; where that is no terminal, one line a picture."""

    def __init__(self, link: str) -> None:
        from rich.live import Live

        self._link = link
        self._live = Live(console=log, transient=True, auto_refresh=False) if log.is_terminal else None
        self._phase = ""
        self._printed: set[int] = set()

    def __enter__(self) -> _Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Bring the display up to date."""
        from runtime.demo.report import table

        if self._live is not None:
            title = f"edgesem demo, link {self._link}: {progress.phase}"
            self._live.update(table(self._in_view(progress.rows), title), refresh=True)
            return
        if progress.phase != self._phase:
            self._phase = progress.phase
            log.print(self._phase, markup=False)
        for number, row in enumerate(progress.rows):
            if number not in self._printed and progress.is_final(number):
                self._printed.add(number)
                log.print(
                    f"{row['frame'] + 1}/{len(progress.rows)} {row['name']}: {row['size_bytes']} bytes, "
                    f"{row['layers']} layers, {row['delay_s']:.2f} s, MS-SSIM {row['ms_ssim']:.4f}",
                    markup=False,
                    soft_wrap=True,
                )

    @staticmethod
    def _in_view(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As many rows as the terminal has room for, the latest picture among them."""
        room = max(4, log.size.height - 6)
        begun = sum("layers_packed" in row for row in rows)
        start = max(0, min(len(rows), begun + 1) - room)
        return rows[start : start + room]


def _render(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from runtime.demo.report import rate_text, table

    link = report["link"]
    summary = (
        f"{report['pictures'] - report['lost']} of {report['pictures']} pictures received, "
        f"{report['layers_acknowledged']} of {report['layers_sent']} layers acknowledged, "
        f"{report['seconds']:.0f} s; link set to {rate_text(link['set_bps'])}, "
        f"measured by its acknowledgements {rate_text(link['estimated_bps'])}"
    )
    title = f"edgesem demo: {report['broker']['kind']}, MQTT {report['broker']['mqtt']}"
    return Group(
        table(report["rows"], title),
        Text(summary, style="green" if report["ok"] else "bold red"),
        Text(f"look at {report['contact_sheet']}; all figures are in {report['report']}"),
    )

"""The commands `edgesem catalogue events` and `edgesem catalogue tidy`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, table
from edgesem.errors import UsageError
from runtime.cli.frame_store import CataloguePasswordOption, OneStreamOption, SinceOption, UntilOption, time_window
from runtime.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType


def tidy(
    catalogue: Annotated[str, typer.Option(metavar="URL", help="The catalogue: postgresql://USER@HOST/NAME.")],
    objects: Annotated[str, typer.Option(help="Where its packets are: here objects are deleted.")],
    max_age: Annotated[str, typer.Option(help="Delete ordinary frames after so long, such as 30d.")],
    promised_max_age: Annotated[
        str | None, typer.Option(help="Delete promised frames after so long, such as 365d.", show_default="never")
    ] = None,
    catalogue_password_file: CataloguePasswordOption = None,
    json_: JsonOption = False,
) -> None:
    """Delete old frames from a catalogue, and the objects of which none is left. Run it by a timer, on one machine.

    Example: edgesem catalogue tidy --catalogue postgresql://edgesem@db/edgesem --objects /srv/edgesem --max-age 30d
    """
    from runtime.catalogue.catalogue import Catalogue
    from runtime.catalogue.tidy import tidy as delete_old
    from runtime.receiver.times import parse_span

    max_age_s = parse_span(max_age)
    promised_s = parse_span(promised_max_age) if promised_max_age else None
    if promised_s is not None and promised_s < max_age_s:
        raise UsageError("ordinary frames go before promised ones: give a --promised-max-age that is not shorter")
    with Catalogue.open(catalogue, catalogue_password_file, objects) as opened:
        now_s = min(time.time(), opened.now_s)  # a clock that is ahead would delete what is not old
        done = delete_old(
            opened,
            before_s=now_s - max_age_s,
            promised_before_s=float("-inf") if promised_s is None else now_s - promised_s,
        )
    emit(done._asdict(), json_, _render)


def events(
    catalogue: Annotated[str, typer.Option(metavar="URL", help="The catalogue: postgresql://USER@HOST/NAME.")],
    catalogue_password_file: CataloguePasswordOption = None,
    stream: OneStreamOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    most: Annotated[int, typer.Option("--top", min=1, max=10_000, help="Show at most N events, newest first.")] = 50,
    json_: JsonOption = False,
) -> None:
    """Show the newest events of all receivers, from the marks of their frames.

    Example: edgesem catalogue events --catalogue postgresql://edgesem@db/edgesem --since 1d
    """
    from runtime.catalogue.catalogue import Catalogue

    window = time_window(since, until)
    with Catalogue.open(catalogue, catalogue_password_file) as opened:
        found = opened.events(stream=stream, most=most, **window)
    rows = [
        {
            "time": datetime.fromtimestamp(one.begun_s).astimezone().isoformat(timespec="seconds"),
            "stream": one.stream,
            "event": one.id,
            "cause": one.cause,
            "label": one.label,
            "frames": one.frames,
            "seconds": round(one.last_s - one.first_s, 3),
        }
        for one in found
    ]
    emit({"events": rows}, json_, _render_events)


def _render_events(result: Mapping[str, Any]) -> RenderableType:
    names = ["time", "stream", "cause", "label", "event", "frames", "seconds"]
    rows = [[row[name] for name in names] for row in result["events"]]
    return table(names, rows, f"{len(rows)} events", left=5)


def _render(result: Mapping[str, Any]) -> str:
    return f"{result['frames']:,} frames deleted, and {result['objects']:,} objects of {result['object_bytes']:,} bytes"

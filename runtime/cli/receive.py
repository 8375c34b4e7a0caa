"""The command `edgesem receive`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from runtime.cli.broker_flags import BrokerGiven, broker_flags

if TYPE_CHECKING:
    from rich.console import RenderableType


@broker_flags
def receive(
    streams: Annotated[
        list[str] | None,
        typer.Argument(help="SITE/DEVICE/STREAM, + for any name.", metavar="[STREAM]...", show_default="+/+/+"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings.")] = None,
    *,
    broker: BrokerGiven,
    layers: Annotated[int | None, typer.Option(help="Receive the first layers only, 1 to 4.", show_default="4")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the flow decoder, 0 to 4.", show_default="0: the base decoder")
    ] = None,
    realism: Annotated[float | None, typer.Option(help="How much steps may invent, 0 to 1.", show_default="1")] = None,
    seed: Annotated[int | None, typer.Option(help="What they invent by.", show_default="0")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures; promised frames are acknowledged only with one.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--as", help="png, jpg, mkv (a video) or none.", show_default="png")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="Serve the live page: PORT on loopback, or HOST:PORT.", show_default="not served")
    ] = None,
    jpeg_topic: Annotated[
        bool | None, typer.Option("--jpeg-topic", help="Publish pictures as JPEG.", show_default=False)
    ] = None,
    home_assistant: Annotated[
        bool | None, typer.Option("--home-assistant", help="The same, and announce the cameras.", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help='Draw only what shows this, such as "a person at a door".', show_default=False),
    ] = None,
    only_score: Annotated[float | None, typer.Option(help="How well, 0 to 1.", show_default="0.9")] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Keep all packets in this folder, for edgesem search.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoders.", show_default="one a core")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Largest frame to decode.", show_default="1920*1088")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the senders.", show_default="ships")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="End after so many.", show_default="never")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long.", show_default="never")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print each picture and the end as a line of JSON.")] = False,
) -> None:
    """Receive streams: to files, to the live page, to Home Assistant.

    Decodes the newest frame of each stream, shares its decoders fairly among the devices, and acknowledges what it has.
    Ends with SIGTERM or Ctrl-C.

    Example: edgesem receive home/+/+ --out received --http 8480
    """
    from edgesem.config import load_config
    from runtime.daemon.receive import run
    from runtime.daemon.receive_settings import ReceiveSettings

    given: dict[str, Any] = {
        "streams": tuple(streams) if streams else None,
        **broker,
        "draw.layers": layers,
        "draw.steps": steps,
        "draw.realism": realism,
        "draw.seed": seed,
        "draw.workers": workers,
        "draw.max_pixels": max_pixels,
        "draw.bundle": bundle,
        "out.folder": out,
        "out.kind": kind,
        "out.http": http,
        "out.jpeg_topic": jpeg_topic,
        "out.home_assistant": home_assistant,
        "out.archive": archive,
        "out.only": tuple(only) if only else None,
        "out.only_score": only_score,
    }
    plan = load_config(config, ReceiveSettings, given).plan(pictures=pictures, seconds=seconds)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    result = run(plan, _print_line if json_ else _log_first())
    if json_:
        _print_line({"event": "done", **result})
    else:
        emit(result, False, _render)


def _print_line(event: dict[str, Any]) -> None:
    import json
    import sys

    sys.stdout.write(json.dumps(event, allow_nan=False) + "\n")
    sys.stdout.flush()


def _log_first() -> Any:
    """Tells a human of each stream's first picture; the files, the page and the metrics have the others."""
    seen: set[str] = set()

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            where = f", live page at {event['url']}" if event["url"] else ""
            log.print(f"receiving{where}; Ctrl-C ends", highlight=False)
        elif event["stream"] not in seen:
            seen.add(event["stream"])
            log.print(
                f"{event['stream']}: {event['width']}x{event['height']}, {event['size_bytes']} bytes, "
                f"{event['layers']} layers, {event['delay_s']:.2f} s old",
                highlight=False,
                markup=False,
            )

    return tell


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    title = f"{result['pictures']} pictures in {result['seconds']:.0f} s"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("stream")
    rare = ("dropped", "kept", "malformed", "unsealed", "undecodable")
    told = [name for name in rare if any(stream[name] for stream in result["streams"])]
    names = ["pictures", "layers", "size_bytes", "decode_s", *told]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for stream in result["streams"]:
        table.add_row(stream["stream"], *(f"{stream[name]:,}" for name in names))
    return table

"""The command `edgesem receive`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, say, table
from edgesem.errors import UsageError
from runtime.cli.event_output import log_to_stderr, print_json_line
from runtime.cli.options import BrokerGiven, BundlesOption, ConfigOption, StateDirOption, broker_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@broker_options
def receive(
    streams: Annotated[
        list[str] | None,
        typer.Argument(
            help="Streams as SITE/DEVICE/STREAM, + for any name.", metavar="[STREAM]...", show_default="+/+/+"
        ),
    ] = None,
    config: ConfigOption = None,
    *,
    broker: BrokerGiven,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Take only the streams that fall to receiver I (0 to N-1) of N that divide them.",
            show_default="all of them",
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Receive the first N layers, 1 to 4.", show_default="4")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the flow decoder, 0 to 4.", show_default="0: the base decoder")
    ] = None,
    realism: Annotated[
        float | None, typer.Option(help="How much detail the steps may invent, 0 to 1.", show_default="1")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the invented detail.", show_default="0")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="auto|small|large",
            help="Base decoder; auto: the large one if the bundle has it and no frame waits.",
            show_default="auto",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; promised frames are acknowledged only with one.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="What ordinary frames become in --out: archive (packets, drawn by `edgesem archive export`), png, "
            "jpg, mkv (a video) or none. Promised ones are kept and drawn in any case.",
            show_default="archive",
        ),
    ] = None,
    stamp: Annotated[
        str | None,
        typer.Option(
            help="Write time, camera and 'drawn' over the pictures: off, small, bar, or auto (a label where detail "
            "was invented).",
            show_default="auto",
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help="For whom cameras on demand send pictures: page (who looks at it), always (this receiver), never.",
            show_default="page",
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="Serve live page and metrics: PORT on loopback, or HOST:PORT.", show_default="not served"),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="With --http: name by which a reverse proxy is reached; may be repeated.", show_default=False
        ),
    ] = None,
    jpeg_topic: Annotated[
        bool | None,
        typer.Option("--jpeg-topic", help="Publish each stream's latest picture as JPEG.", show_default=False),
    ] = None,
    home_assistant: Annotated[
        bool | None,
        typer.Option(
            "--home-assistant",
            help="Do that, and announce each stream to Home Assistant as a device.",
            show_default=False,
        ),
    ] = None,
    on_event_command: Annotated[
        str | None,
        typer.Option(
            help="With --out: run this when an event begins and when its clip is there; without a shell.",
            show_default="none",
        ),
    ] = None,
    on_event_webhook: Annotated[
        str | None,
        typer.Option(help="And POST event and picture to this URL, as a form.", show_default="none"),
    ] = None,
    home_assistant_control: Annotated[
        bool | None,
        typer.Option(
            help="With --home-assistant: whether it may ask for snapshots, pauses and the like, or only look.",
            show_default="it may",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help='Draw only pictures that show this, such as "a person at a door"; may be repeated.', show_default=False
        ),
    ] = None,
    only_score: Annotated[
        float | None,
        typer.Option(help="With --only: from which score on a picture shows it, 0 to 1.", show_default="0.75"),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            help="Keep all packets in this folder, for `edgesem archive` and `edgesem search`.",
            show_default="--out, with --as archive",
        ),
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Bring archived frames to the catalogue of several receivers, postgresql://USER@HOST/NAME.",
            show_default="none",
        ),
    ] = None,
    catalogue_password_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the catalogue's password, readable by you alone.",
            show_default="$EDGESEM_CATALOGUE_PASSWORD",
        ),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            help="With --catalogue: where packets go for all receivers, a shared folder or s3://BUCKET/PREFIX.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Most decoder processes.", show_default="as many as have work, at most one a core that we may use"
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Largest frame to decode, in pixels.", show_default="1920*1088")
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            help="With --out: disk space of ordinary pictures, in bytes; the oldest go.", show_default="all but 256 MiB"
        ),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option(
            help="Delete ordinary pictures, videos and archived frames after so long, such as 30d.",
            show_default="never",
        ),
    ] = None,
    archive_max_bytes: Annotated[
        int | None,
        typer.Option(help="Disk space of the archive, in bytes; the oldest ordinary frames go.", show_default="4 GiB"),
    ] = None,
    promised_max_bytes: Annotated[
        int | None,
        typer.Option(help="With --out: disk space of promised frames; the oldest go.", show_default="as much as fits"),
    ] = None,
    promised_max_age: Annotated[
        str | None,
        typer.Option(help="Delete promised frames after so long, such as 365d.", show_default="never"),
    ] = None,
    bundle: BundlesOption = None,
    state_dir: StateDirOption = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="End after N pictures.", show_default="never")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after N seconds.", show_default="never")] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print each picture, and the figures at the end, as one line of JSON.")
    ] = False,
) -> None:
    """Receive streams: to files, to a live page, to Home Assistant.

    Decodes the newest frame of each stream, shares its decoders fairly among the devices, and acknowledges what it has.
    Ends with SIGTERM or Ctrl-C.

    Example: edgesem receive home/+/+ --out received --http 8480
    """
    from edgesem.config import load_config
    from runtime.daemon.receive import run_receive
    from runtime.daemon.receive_settings import ReceiveSettings
    from runtime.protocol.shard import Shard

    if shard is not None:
        Shard.parse(shard)  # also an empty one, of a variable that is not set: it would be all streams
    given: dict[str, Any] = {
        "streams": tuple(streams) if streams else None,
        "shard": shard,
        **broker,
        "draw.layers": layers,
        "draw.steps": steps,
        "draw.decoder": decoder,
        "draw.realism": realism,
        "draw.seed": seed,
        "draw.workers": workers,
        "draw.max_pixels": max_pixels,
        "draw.bundle": bundle[0] if bundle else None,
        "draw.more_bundles": tuple(bundle[1:]) if bundle else None,
        "out.folder": out,
        "out.kind": kind,
        "out.stamp": stamp,
        "out.view": view,
        "out.http": http,
        "out.allowed_hosts": tuple(allowed_host) if allowed_host else None,
        "out.jpeg_topic": jpeg_topic,
        "out.home_assistant": home_assistant,
        "out.home_assistant_control": home_assistant_control,
        "out.archive": archive,
        "catalogue.url": catalogue,
        "catalogue.password_file": catalogue_password_file,
        "catalogue.objects": objects,
        "event.command": _command(on_event_command),
        "event.webhook": on_event_webhook,
        "out.only": tuple(only) if only else None,
        "out.only_score": only_score,
        "out.max_bytes": max_bytes,
        "out.max_age": max_age,
        "out.archive_max_bytes": archive_max_bytes,
        "out.promised_max_bytes": promised_max_bytes,
        "out.promised_max_age": promised_max_age,
        "monitor.state_dir": state_dir,
    }
    settings = load_config(config, ReceiveSettings, given)
    log_to_stderr()
    on_event = print_json_line if json_ else _first_pictures()
    result = run_receive(settings, on_event, max_pictures=pictures, seconds=seconds)
    if json_:
        print_json_line({"event": "done", **result})
    else:
        emit(result, False, _render)


def _command(text: str | None) -> tuple[str, ...] | None:
    """A program and its arguments, as a shell would part them. UsageError for quotes that do not close."""
    try:
        return None if text is None else tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--on-event-command {text!r} cannot be read: {error}") from None


def _first_pictures() -> Callable[[Mapping[str, Any]], None]:
    """Shows the first picture of each stream on stderr; the files, the page and the metrics have the others."""
    seen: set[str] = set()

    def show(event: Mapping[str, Any]) -> None:
        if event["event"] == "ready":
            where = f", live page at {event['url']}" if event["url"] else ""
            say(f"receiving{where}; Ctrl-C ends")
        elif event["event"] == "picture" and event["stream"] not in seen:
            seen.add(event["stream"])
            say(
                f"{event['stream']}: {event['width']}x{event['height']}, {event['size_bytes']} bytes, "
                f"{event['layers']} layers, {event['delay_s']:.2f} s old"
            )

    return show


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rare = ("dropped", "kept", "malformed", "unsealed", "other_bundle", "undecodable")
    names = ["pictures", "layers", "size_bytes", "decode_s"]
    names += [name for name in rare if any(stream[name] for stream in result["streams"])]
    rows = [(stream["stream"], *(f"{stream[name]:,}" for name in names)) for stream in result["streams"]]
    drawn = sum(stream["pictures"] for stream in result["streams"])
    title = f"{drawn} pictures in {result['seconds']:.0f} s"
    if result["unwritten"]:
        title += f", {result['unwritten']} of them could not be written"
    shown = table(["stream", *(name.replace("_", " ") for name in names)], rows, title)
    only = result.get("only")
    if only is None:
        return shown
    words = f"--only: {only['passed']} frames show it, {only['left']} do not and were left out"
    return Group(shown, Text(words + (f", {only['unknown']} came without an embedding" if only["unknown"] else "")))

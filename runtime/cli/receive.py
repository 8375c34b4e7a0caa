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
from runtime.cli.options import (
    BundlesOption,
    ConfigOption,
    Flag,
    Given,
    StateDirOption,
    broker_options,
    setting_options,
)

if TYPE_CHECKING:
    from rich.console import RenderableType


_FLAGS = {
    "--shard": Flag(
        "shard",
        str,
        "Take only the streams that fall to receiver I (0 to N-1) of N that divide them.",
        "all of them",
        metavar="I/N",
    ),
    "--layers": Flag("draw.layers", int, "Receive the first N layers, 1 to 4.", "4"),
    "--steps": Flag("draw.steps", int, "Steps of the flow decoder, 0 to 4.", "0: the base decoder"),
    "--realism": Flag("draw.realism", float, "How much detail the steps may invent, 0 to 1.", "1"),
    "--seed": Flag("draw.seed", int, "Seed of the invented detail.", "0"),
    "--decoder": Flag(
        "draw.decoder",
        str,
        "Base decoder: small, large, or auto (the large one if the bundle has it and no frame waits).",
        "auto",
    ),
    "--out": Flag("out.folder", Path, "Folder for the pictures; promised frames are acknowledged only with one."),
    "--as": Flag(
        "out.kind",
        str,
        "What ordinary frames become in --out: archive (packets, drawn by `edgesem archive export`), png, "
        "jpg, mkv (a video) or none. Promised ones are kept and drawn in any case.",
        "archive",
    ),
    "--stamp": Flag(
        "out.stamp",
        str,
        "Write time, camera and 'drawn' over the pictures: off, small, bar, or auto (a label where detail "
        "was invented).",
        "auto",
    ),
    "--view": Flag(
        "out.view",
        str,
        "For whom cameras on demand send pictures: page (who looks at it), always (this receiver), never.",
        "page",
    ),
    "--http": Flag("out.http", str, "Serve live page and metrics: PORT on loopback, or HOST:PORT.", "not served"),
    "--allowed-host": Flag(
        "out.allowed_hosts", list[str], "With --http: name by which a reverse proxy is reached; may be repeated."
    ),
    "--jpeg-topic": Flag("out.jpeg_topic", bool, "Publish each stream's latest picture as JPEG."),
    "--home-assistant": Flag(
        "out.home_assistant", bool, "As --jpeg-topic, and announce each stream to Home Assistant as a device."
    ),
    "--no-home-assistant-control": Flag(
        "out.home_assistant_control",
        bool,
        "With --home-assistant: it may only look, and ask for no snapshots, pauses and the like.",
    ),
    "--only": Flag(
        "out.only", list[str], 'Draw only pictures that show this, such as "a person at a door"; may be repeated.'
    ),
    "--only-score": Flag(
        "out.only_score", float, "With --only: from which score on a picture shows it, 0 to 1.", "0.75"
    ),
    "--archive": Flag(
        "out.archive",
        Path,
        "Keep all packets in this folder, for `edgesem archive` and `edgesem search`.",
        "--out, with --as archive",
    ),
    "--catalogue": Flag(
        "catalogue.url",
        str,
        "Bring archived frames to the catalogue of several receivers, postgresql://USER@HOST/NAME.",
        "none",
        metavar="URL",
    ),
    "--catalogue-password-file": Flag(
        "catalogue.password_file",
        Path,
        "File with the catalogue's password, readable by you alone.",
        "$EDGESEM_CATALOGUE_PASSWORD",
    ),
    "--objects": Flag(
        "catalogue.objects",
        str,
        "With --catalogue: where packets go for all receivers, a shared folder or s3://BUCKET/PREFIX.",
    ),
    "--workers": Flag(
        "draw.workers", int, "Most decoder processes.", "as many as have work, at most one a core that we may use"
    ),
    "--max-pixels": Flag("draw.max_pixels", int, "Largest frame to decode, in pixels.", "1920*1088"),
    "--max-bytes": Flag(
        "out.max_bytes", int, "With --out: disk space of ordinary pictures, in bytes; the oldest go.", "as much as fits"
    ),
    "--free-bytes": Flag(
        "out.free_bytes",
        int,
        "Leave so many bytes of the disk free; the oldest ordinary frames go.",
        "256 MiB, or an eighth of a disk below 2 GiB",
    ),
    "--max-age": Flag(
        "out.max_age", str, "Delete ordinary pictures, videos and archived frames after so long, such as 30d.", "never"
    ),
    "--archive-max-bytes": Flag(
        "out.archive_max_bytes", int, "Disk space of the archive, in bytes; the oldest ordinary frames go.", "4 GiB"
    ),
    "--promised-max-bytes": Flag(
        "out.promised_max_bytes", int, "With --out: disk space of promised frames; the oldest go.", "as much as fits"
    ),
    "--promised-max-age": Flag(
        "out.promised_max_age", str, "Delete promised frames after so long, such as 365d.", "never"
    ),
    "--on-event-webhook": Flag(
        "event.webhook", str, "With --out: POST event and picture to this URL, as a form.", "none"
    ),
}


@setting_options(_FLAGS)
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
    broker: Given,
    given: Given,
    on_event_command: Annotated[
        str | None,
        typer.Option(
            help="With --out: run this when an event begins and when its clip is there; without a shell.",
            show_default="none",
        ),
    ] = None,
    bundle: BundlesOption = None,
    state_dir: StateDirOption = None,
    # Without `min`: Typer writes the range into a column so wide that the names of options are cut at 80 columns
    pictures: Annotated[int | None, typer.Option(help="End after N pictures.", show_default="never")] = None,
    seconds: Annotated[float | None, typer.Option(help="End after N seconds.", show_default="never")] = None,
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

    if (pictures is not None and pictures < 1) or (seconds is not None and not seconds >= 0):
        raise UsageError("--pictures is at least 1, --seconds at least 0")
    if given["shard"] is not None:
        Shard.parse(given["shard"])  # also an empty one, of a variable that is not set: it would be all streams
    given |= {
        "streams": tuple(streams) if streams else None,
        "draw.bundle": bundle[0] if bundle else None,
        "draw.more_bundles": tuple(bundle[1:]) if bundle else None,
        "event.command": _command(on_event_command),
        "monitor.state_dir": state_dir,
    }
    settings = load_config(config, ReceiveSettings, given | broker)
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

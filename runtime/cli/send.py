"""The commands `edgesem send` and `edgesem key`."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import emit, log
from runtime.cli.broker_flags import BrokerGiven, broker_flags

_printing = threading.Lock()


@broker_flags
def send(
    source: Annotated[
        str | None,
        typer.Argument(
            help="/dev/videoN, rtsp://..., a video, a folder, - (PPM on stdin), picamera[:N], csi[:N] or gst:PIPELINE.",
            show_default="/dev/video0",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the same settings; flags go before it.")] = None,
    *,
    broker: BrokerGiven,
    site: Annotated[str | None, typer.Option(help="First part of the stream's name.", show_default="home")] = None,
    device: Annotated[str | None, typer.Option(help="Second part.", show_default="the host's name")] = None,
    stream: Annotated[str | None, typer.Option(help="Third part.", show_default="main")] = None,
    fps: Annotated[float | None, typer.Option(help="At most so many frames a second.", show_default="1")] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="0 to 1: rather skip a frame than make it worse.", show_default="0")
    ] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Largest frame.", show_default="30000")] = None,
    key_interval: Annotated[
        float | None, typer.Option(help="Seconds between frames that refer to no earlier one.", show_default="60")
    ] = None,
    most_receivers: Annotated[
        int | None, typer.Option(help="With more receivers, no frame refers to an earlier one.", show_default="8")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="On a thin link: smooth, or sharp (fewer frames).", show_default="smooth")
    ] = None,
    promise_every: Annotated[
        int | None, typer.Option(help="Keep each Nth frame until a receiver has it; 1: all.", show_default="0: none")
    ] = None,
    linger: Annotated[
        float | None,
        typer.Option(
            help="After a file's or folder's end, stay so many seconds at most for promised frames.",
            show_default="while receivers take some",
        ),
    ] = None,
    send_on: Annotated[
        str | None, typer.Option(help="all, or change: only frames that say something new.", show_default="all")
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(help='Look for this, such as "a truck"; may be given more than once.', show_default=False),
    ] = None,
    heartbeat: Annotated[
        float | None, typer.Option(help="With --send-on change: a frame at least each N seconds.", show_default="30")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="With --send-on change: 2 sends at half the change.", show_default="1")
    ] = None,
    follow: Annotated[bool | None, typer.Option("--follow", help="A folder: send what comes later too.")] = None,
    loop: Annotated[bool | None, typer.Option("--loop", help="A folder or video: begin again at its end.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle to use.", show_default="ships")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of promised frames and the device's key.", show_default="by systemd/XDG")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Prometheus endpoint: PORT on loopback, or HOST:PORT.", show_default="none")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")] = False,
) -> None:
    """Send a camera, a video or pictures over MQTT, at the rate that the link really bears.

    The newest frame wins: what the link has no room for is skipped, never queued. Ends with SIGTERM or Ctrl-C, or when
    a file or folder is through; promised frames that no receiver has yet stay on disk for the next start.
    With --send-on change, what the receiver knows already is not sent; what --watch names gets the whole link.

    Example: edgesem send /dev/video0 --host broker.example --site home --device gate --fps 2
    """
    from edgesem.config import load_config
    from runtime.daemon.send import run_send
    from runtime.settings import SendSettings

    given: dict[str, Any] = {
        "source.uri": source,
        "source.watch": follow,
        "source.loop": loop,
        **broker,
        "stream.site": site,
        "stream.device": device,
        "stream.stream": stream,
        "stream.fps": fps,
        "stream.min_quality": min_quality,
        "stream.max_bytes": max_bytes,
        "stream.key_interval_s": key_interval,
        "stream.most_receivers": most_receivers,
        "stream.prefer": prefer,
        "stream.bundle": bundle,
        "promise.every": promise_every,
        "promise.linger_s": linger,
        "watch.send_on": send_on,
        "watch.queries": tuple(watch) if watch else None,
        "watch.heartbeat_s": heartbeat,
        "watch.sensitivity": sensitivity,
        "monitor.state_dir": state_dir,
        "monitor.metrics": metrics,
    }
    settings = load_config(config, SendSettings, given)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    run_send(settings, _print_line if json_ else _show_state)


def key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; it must not exist.")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Make a key that seals a stream: give the same file to its sender and its receivers, and to nobody else.

    Another one can sign your bundles (`edgesem export --sign`): that one stays with you, and others get the public key
    that is printed, for `edgesem verify --trust`.

    Example: edgesem key seal.key
    """
    from edgesem.packet.keys import Identity, new_key

    new_key(path)
    result = {"file": path, "public_key": Identity.open(path).public_key.hex()}
    emit(result, json_, lambda r: f"{r['file']}: a new key, readable by you alone\npublic key: {r['public_key']}")


def _print_line(**fields: object) -> None:
    with _printing:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def _show_state(*, event: str, **fields: Any) -> None:
    if event != "state":
        return
    capacity = fields["capacity_bps"]
    rate = "unknown" if capacity is None else f"{capacity / 1000:.0f} kbit/s"
    age = "nothing delivered yet" if fields["age_s"] is None else f"newest delivered {fields['age_s']:.1f} s old"
    log.print(
        f"{'connected' if fields['up'] else 'NOT CONNECTED'}, link {rate}, {fields['frames']} frames, "
        f"{fields['skipped']} skipped, {fields['sent_bytes']} bytes, {age}, {fields['promised_waiting']} promised wait",
        highlight=False,
        soft_wrap=True,
    )

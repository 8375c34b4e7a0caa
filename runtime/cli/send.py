"""The command `edgesem send`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import say
from edgesem.errors import UsageError
from runtime.cli.event_output import log_to_stderr, print_json_line
from runtime.cli.options import BrokerGiven, BundleOption, ConfigOption, JsonLinesOption, StateDirOption, broker_options

LEFT = 4
"""Exit code of `--once` when the deadline has passed and there is something that no receiver has."""


@broker_options
def send(
    source: Annotated[
        str | None,
        typer.Argument(
            help="/dev/videoN, rtsp://..., a video, a folder, - (PPM on stdin), picamera[:N], csi[:N], gst:PIPELINE.",
            show_default="/dev/video0",
        ),
    ] = None,
    config: ConfigOption = None,
    *,
    broker: BrokerGiven,
    site: Annotated[str | None, typer.Option(help="First part of the stream's name.", show_default="home")] = None,
    device: Annotated[
        str | None, typer.Option(help="Second part of the stream's name.", show_default="the host's name")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Third part of the stream's name.", show_default="main")] = None,
    fps: Annotated[float | None, typer.Option(help="Most frames a second.", show_default="1")] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Skip a frame rather than make it worse than this, 0 to 1.", show_default="0")
    ] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Largest frame, in bytes.", show_default="30000")] = None,
    max_rate_bps: Annotated[
        int | None, typer.Option(help="Most bits a second of ordinary frames.", show_default="what the link bears")
    ] = None,
    key_interval: Annotated[
        float | None, typer.Option(help="Longest time between keyframes, in seconds.", show_default="60")
    ] = None,
    most_receivers: Annotated[
        int | None, typer.Option(help="With more receivers than this, code keyframes only.", show_default="8")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="On a thin link: smooth, or sharp (fewer frames).", show_default="smooth")
    ] = None,
    denoise: Annotated[
        bool | None,
        typer.Option(
            "--denoise",
            help="Average what does not change over frames, against the sensor's noise; not for evidence.",
            show_default=False,
        ),
    ] = None,
    promise_every: Annotated[
        int | None,
        typer.Option(
            help="Promise every N-th frame: keep it on disk until a receiver has it; 1: all.", show_default="0: none"
        ),
    ] = None,
    linger: Annotated[
        float | None,
        typer.Option(
            help="After the end of a file or folder, stay at most so many seconds for promised frames.",
            show_default="while receivers take some",
        ),
    ] = None,
    send_on: Annotated[
        str | None, typer.Option(help="all, or change: only frames that show something new.", show_default="all")
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(help='Look for this, such as "a truck"; may be repeated.', show_default=False),
    ] = None,
    watch_score: Annotated[
        float | None,
        typer.Option(
            help="With --watch: from which score on a frame shows it, 0 to 1; higher is stricter.", show_default="0.8"
        ),
    ] = None,
    heartbeat: Annotated[
        float | None,
        typer.Option(help="With --send-on change: send a frame at least every N seconds.", show_default="30"),
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(help="With --send-on change: at 2, half the change is enough.", show_default="1")
    ] = None,
    follow: Annotated[bool | None, typer.Option("--follow", help="Of a folder: send later pictures too.")] = None,
    loop: Annotated[bool | None, typer.Option("--loop", help="Of a folder or video: begin again at its end.")] = None,
    rotate: Annotated[
        int | None, typer.Option(help="Turn clockwise by 90, 180 or 270 degrees.", show_default="0")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Privacy mask: TOML file of areas that are filled before anything else sees the picture."),
    ] = None,
    detail: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Keep the newest picture in this larger size, such as 1920x1080, for `edgesem ask detail`.",
            show_default="none",
        ),
    ] = None,
    grey: Annotated[
        str | None,
        typer.Option(
            help="auto: pictures without colour (infra-red) are sent as grey; on: all; off.", show_default="auto"
        ),
    ] = None,
    once: Annotated[
        bool | None,
        typer.Option(
            "--once", help="Send the newest frame, wait until a receiver has it, and end; exit code 4: not all."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="As --once, with so many frames.", show_default="1 with --once")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="With --once: end so many seconds after the start in any case.", show_default="120"),
    ] = None,
    warm_up: Annotated[
        float | None,
        typer.Option(help="With --once: leave out a camera's first seconds (exposure).", show_default="0"),
    ] = None,
    data_day: Annotated[
        float | None,
        typer.Option(help="Most megabytes on the wire a day, all overhead included.", show_default="no limit"),
    ] = None,
    data_month: Annotated[
        float | None, typer.Option(help="Most megabytes on the wire a billing month.", show_default="no limit")
    ] = None,
    events: Annotated[
        bool | None,
        typer.Option(
            "--events",
            help="Make events of what --watch finds, of changes (--send-on change), of a GPIO line and of `edgesem ask "
            "event`: frames from before and after are promised.",
            show_default=False,
        ),
    ] = None,
    event_before: Annotated[
        str | None, typer.Option(help="With --events: how long before, such as 5s.", show_default="5s")
    ] = None,
    event_after: Annotated[str | None, typer.Option(help="And how long after.", show_default="10s")] = None,
    event_fps: Annotated[
        float | None, typer.Option(help="With --events: their frames a second.", show_default="1")
    ] = None,
    event_gpio: Annotated[
        str | None,
        typer.Option(
            help="With --events: GPIO line of a contact or motion detector, CHIP:LINE, such as gpiochip0:17.",
            show_default="none",
        ),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            help="always, or on-demand: thumbnails only, until somebody watches at a receiver.", show_default="always"
        ),
    ] = None,
    idle_every: Annotated[
        float | None,
        typer.Option(
            help="With --live on-demand: while nobody watches, a thumbnail each N seconds.", show_default="30"
        ),
    ] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            help='Frame rate by time of day, "FROM..TO=FPS": "22:00..05:30=0", "sunset..sunrise=0.1"; may be repeated.',
            show_default=False,
        ),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            help='Of the camera, "LATITUDE,LONGITUDE" in degrees, for sunrise and sunset.', show_default=False
        ),
    ] = None,
    bundle: BundleOption = None,
    state_dir: StateDirOption = None,
    metrics: Annotated[
        str | None, typer.Option(help="Serve Prometheus metrics: PORT on loopback, or HOST:PORT.", show_default="none")
    ] = None,
    json_: JsonLinesOption = False,
) -> None:
    """Send a camera, a video or pictures over MQTT, at the rate that the link really carries.

    The newest frame wins: what the link has no room for is skipped, never queued. Ends with SIGTERM or Ctrl-C, or when
    a file or folder is through; promised frames that no receiver has yet stay on disk for the next start. With
    --send-on change, what the receiver knows already is not sent; what --watch names gets the whole link.

    Example: edgesem send /dev/video0 --host broker.example --site home --device gate --fps 2
    """
    from edgesem.config import load_config
    from runtime.daemon.send import run_send
    from runtime.daemon.send_settings import SendSettings

    latitude, longitude = _degrees(position)
    given: dict[str, Any] = {
        "source.uri": source,
        "source.rotate": rotate,
        "source.mask": mask,
        "source.grey": grey,
        "source.detail": detail,
        "source.watch": follow,
        "source.loop": loop,
        **broker,
        "stream.site": site,
        "stream.device": device,
        "stream.stream": stream,
        "stream.fps": fps,
        "stream.min_quality": min_quality,
        "stream.max_bytes": max_bytes,
        "stream.max_rate_bps": max_rate_bps,
        "stream.key_interval_s": key_interval,
        "stream.most_receivers": most_receivers,
        "stream.prefer": prefer,
        "stream.denoise": denoise,
        "stream.bundle": bundle,
        "promise.every": promise_every,
        "promise.linger_s": linger,
        "watch.send_on": send_on,
        "watch.queries": tuple(watch) if watch else None,
        "watch.score": watch_score,
        "watch.heartbeat_s": heartbeat,
        "watch.sensitivity": sensitivity,
        "once.frames": frames if frames is not None or not once else 1,
        "once.deadline_s": deadline,
        "once.warm_up_s": warm_up,
        "data.day_mb": data_day,
        "data.month_mb": data_month,
        "event.on": events,
        "event.before": event_before,
        "event.after": event_after,
        "event.fps": event_fps,
        "event.gpio": event_gpio,
        "live.mode": live,
        "live.idle_every_s": idle_every,
        "schedule.rules": tuple(schedule) if schedule else None,
        "schedule.latitude": latitude,
        "schedule.longitude": longitude,
        "monitor.state_dir": state_dir,
        "monitor.metrics": metrics,
    }
    settings = load_config(config, SendSettings, given)
    if not settings.event.on and any(one is not None for one in (event_before, event_after, event_fps)):
        raise UsageError("--event-before, --event-after and --event-fps are of events: give --events too")
    log_to_stderr()
    state = run_send(settings, print_json_line if json_ else _states(settings.watch.score))
    if state.get("left"):
        raise typer.Exit(LEFT)


def _degrees(position: str | None) -> tuple[float | None, float | None]:
    """Latitude and longitude; UsageError for what is no position."""
    if position is None:
        return None, None
    try:
        latitude, longitude = (float(part) for part in position.split(","))
    except ValueError:
        raise UsageError(f"--position {position[:40]!r} is none: write LATITUDE,LONGITUDE, as 48.21,16.37") from None
    return latitude, longitude


def _states(watch_score: float) -> Callable[[Mapping[str, Any]], None]:
    """Shows each state as one line on stderr, with the best score since the last one of what is looked for."""
    best: list[Mapping[str, Any]] = []

    def show(event: Mapping[str, Any]) -> None:
        if event["event"] == "news" and "score" in event:
            best[:] = [max([event, *best], key=lambda one: one["score"])]
        elif event["event"] == "state":
            found = best.pop() if best else None
            words = "" if found is None else f", {found['query']} {found['score']:.2f} of {watch_score:g}"
            _show_state(event, words)
        elif event["event"] == "once":
            _show_wake(event)

    return show


def _show_wake(wake: Mapping[str, Any]) -> None:
    """What one wake has come to, and when what was there, in seconds since the program's start."""
    words = {
        "ready_s": "networks loaded",
        "connected_s": "connected",
        "picture_s": "picture",
        "first_byte_s": "first byte",
    }
    times = [f"{words[key]} {wake[key]:.1f} s" for key in words if key in wake]
    times += [f"a receiver had it {wake['received_s']:.1f} s"] if "received_s" in wake else []
    trouble = f" ({wake['trouble']})" if wake["trouble"] else ""
    left = (
        f"{wake['left']} left, {wake['promised_waiting']} of them on the disk{trouble}" if wake["left"] else "none left"
    )
    say(f"{wake['taken']} frames taken, {left}; {', '.join(times)}")


def _show_state(event: Mapping[str, Any], found: str) -> None:
    capacity = event["capacity_bps"]
    rate = "unknown" if capacity is None else f"{capacity / 1000:.0f} kbit/s"
    age = "nothing delivered yet" if event["age_s"] is None else f"newest delivered {event['age_s']:.1f} s old"
    live = f", {event['live']}" if event["live"] else ""
    say(
        f"{'connected' if event['up'] else 'NOT CONNECTED'}{live}, link {rate}, {event['frames']} frames, "
        f"{event['skipped']} skipped, {event['sent_bytes']} bytes, {age}, "
        f"{event['promised_waiting']} promised wait{found}"
    )

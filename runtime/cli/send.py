"""The command `edgesem send`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import say
from edgesem.errors import UsageError
from runtime.cli.event_output import log_to_stderr, print_json_line
from runtime.cli.options import (
    BundleOption,
    ConfigOption,
    Flag,
    Given,
    JsonLinesOption,
    StateDirOption,
    broker_options,
    setting_options,
)

LEFT = 4
"""Exit code of `--once` when the deadline has passed and there is something that no receiver has."""


_FLAGS = {
    "--site": Flag("stream.site", str, "First part of the stream's name.", "home"),
    "--device": Flag("stream.device", str, "Second part of the stream's name.", "the host's name"),
    "--stream": Flag("stream.stream", str, "Third part of the stream's name.", "main"),
    "--fps": Flag("stream.fps", float, "Most frames a second.", "1"),
    "--min-quality": Flag(
        "stream.min_quality", float, "Skip a frame rather than make it worse than this, 0 to 1.", "0"
    ),
    "--max-bytes": Flag("stream.max_bytes", int, "Largest frame, in bytes.", "30000"),
    "--max-rate-bps": Flag("stream.max_rate_bps", int, "Most bits a second of ordinary frames.", "what the link bears"),
    "--key-interval": Flag("stream.key_interval_s", float, "Longest time between keyframes, in seconds.", "60"),
    "--most-receivers": Flag("stream.most_receivers", int, "With more receivers than this, code keyframes only.", "8"),
    "--prefer": Flag("stream.prefer", str, "On a thin link: smooth, or sharp (fewer frames).", "smooth"),
    "--denoise": Flag(
        "stream.denoise",
        bool,
        "Average what does not change over frames, against the sensor's noise; not for evidence.",
    ),
    "--promise-every": Flag(
        "promise.every", int, "Promise every N-th frame: keep it on disk until a receiver has it; 1: all.", "0: none"
    ),
    "--linger": Flag(
        "promise.linger_s",
        float,
        "After the end of a file or folder, stay at most so many seconds for promised frames.",
        "while receivers take some",
    ),
    "--send-on": Flag("watch.send_on", str, "all, or change: only frames that show something new.", "all"),
    "--watch": Flag("watch.queries", list[str], 'Look for this, such as "a truck"; may be repeated.'),
    "--watch-score": Flag(
        "watch.score", float, "With --watch: from which score on a frame shows it, 0 to 1; higher is stricter.", "0.8"
    ),
    "--heartbeat": Flag(
        "watch.heartbeat_s", float, "With --send-on change: send a frame at least every N seconds.", "30"
    ),
    "--sensitivity": Flag("watch.sensitivity", float, "With --send-on change: at 2, half the change is enough.", "1"),
    "--follow": Flag("source.watch", bool, "Of a folder: send later pictures too."),
    "--loop": Flag("source.loop", bool, "Of a folder or video: begin again at its end."),
    "--rotate": Flag("source.rotate", int, "Turn clockwise by 90, 180 or 270 degrees.", "0"),
    "--mask": Flag(
        "source.mask", Path, "Privacy mask: TOML file of areas that are filled before anything else sees the picture."
    ),
    "--detail": Flag(
        "source.detail",
        str,
        "Keep the newest picture in this larger size, such as 1920x1080, for `edgesem ask detail`.",
        "none",
        metavar="WxH",
    ),
    "--grey": Flag(
        "source.grey", str, "auto: pictures without colour (infra-red) are sent as grey; on: all; off.", "auto"
    ),
    "--deadline": Flag(
        "once.deadline_s", float, "With --once: end so many seconds after the start in any case.", "120"
    ),
    "--warm-up": Flag("once.warm_up_s", float, "With --once: leave out a camera's first seconds (exposure).", "0"),
    "--data-day": Flag("data.day_mb", float, "Most megabytes on the wire a day, all overhead included.", "no limit"),
    "--data-month": Flag("data.month_mb", float, "Most megabytes on the wire a billing month.", "no limit"),
    "--events": Flag(
        "event.on",
        bool,
        "Make events of what --watch finds, of changes (--send-on change), of a GPIO line and of `edgesem "
        "ask event`: frames from before and after are promised.",
    ),
    "--event-before": Flag("event.before", str, "With --events: how long before, such as 5s.", "5s"),
    "--event-after": Flag("event.after", str, "And how long after.", "10s"),
    "--event-fps": Flag("event.fps", float, "With --events: their frames a second.", "1"),
    "--event-gpio": Flag(
        "event.gpio",
        str,
        "With --events: GPIO line of a contact or motion detector, CHIP:LINE, such as gpiochip0:17.",
        "none",
    ),
    "--live": Flag(
        "live.mode", str, "always, or on-demand: thumbnails only, until somebody watches at a receiver.", "always"
    ),
    "--idle-every": Flag(
        "live.idle_every_s", float, "With --live on-demand: while nobody watches, a thumbnail each N seconds.", "30"
    ),
    "--schedule": Flag(
        "schedule.rules",
        list[str],
        'Frame rate by time of day, "FROM..TO=FPS": "22:00..05:30=0", "sunset..sunrise=0.1"; may be repeated.',
    ),
    "--metrics": Flag("monitor.metrics", str, "Serve Prometheus metrics: PORT on loopback, or HOST:PORT.", "none"),
}


@setting_options(_FLAGS)
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
    broker: Given,
    given: Given,
    once: Annotated[
        bool | None,
        typer.Option(
            "--once", help="Send the newest frame, wait until a receiver has it, and end; exit code 4: not all."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="As --once, with so many frames.", show_default="1 with --once")
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            help='Of the camera, "LATITUDE,LONGITUDE" in degrees, for sunrise and sunset.', show_default=False
        ),
    ] = None,
    bundle: BundleOption = None,
    state_dir: StateDirOption = None,
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
    given |= {
        "source.uri": source,
        "stream.bundle": bundle,
        "once.frames": frames if frames is not None or not once else 1,
        "schedule.latitude": latitude,
        "schedule.longitude": longitude,
        "monitor.state_dir": state_dir,
    }
    settings = load_config(config, SendSettings, given | broker)
    if not settings.event.on and any(given[f"event.{name}"] is not None for name in ("before", "after", "fps")):
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
    silent_s = event.get("silent_s", 0)
    camera = f", NO PICTURE FROM THE CAMERA for {silent_s} s" if silent_s else ""
    say(
        f"{'connected' if event['up'] else 'NOT CONNECTED'}{camera}{live}, link {rate}, {event['frames']} frames, "
        f"{event['skipped']} skipped, {event['sent_bytes']} bytes, {age}, "
        f"{event['promised_waiting']} promised wait{found}"
    )

"""The command `edgesem bench fleet`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, table
from runtime.cli.options import BrokerGiven, JsonOption, broker_options

if TYPE_CHECKING:
    from rich.console import RenderableType


@broker_options
def bench_fleet(
    broker: BrokerGiven,
    cameras: Annotated[int, typer.Option(min=1, max=20_000, help="How many cameras to simulate.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long they film.")] = 20,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds from frame to frame of a camera.")] = 10,
    receivers: Annotated[int, typer.Option(min=1, max=64, help="How many receivers divide the streams.")] = 2,
    size_bytes: Annotated[int, typer.Option("--bytes", min=300, max=60_000, help="Most bytes of a frame.")] = 3000,
    promise_every: Annotated[int, typer.Option(min=0, help="Promise every N-th frame; 0: none.")] = 0,
    kill_receiver: Annotated[
        bool, typer.Option("--kill-receiver", help="Kill a receiver at half time, and start it anew.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Measure how many cameras a broker and receivers on this machine bear.

    Cameras are simulated: each has a connection of its own and follows the protocol with birth, state, frames and
    promised frames; the frames are photographs of 320x240 pixels that were coded once. Broker and receivers are real;
    without --broker, a mosquitto is started. Delays are from capture to decoded.

    Example: edgesem bench fleet --cameras 100 --seconds 20
    """
    from edgesem.config import load_config
    from runtime.bench.fleet.bench import Load, run_load
    from runtime.cli.ask_client import AskSettings

    load = Load(
        cameras=cameras,
        seconds=seconds,
        interval_s=interval,
        receivers=receivers,
        budget_bytes=size_bytes,
        promise_every=promise_every,
        kill_receiver=kill_receiver,
    )
    given = broker["broker.host"] is not None or broker["broker.port"] is not None
    addresses = load_config(None, AskSettings, broker).broker.addresses() if given else []
    result = run_load(load, addresses, lambda words: log.print(words, markup=False))
    emit(result, json_, _render)


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rows = [
        (name, part["cores"], f"{part['rss_bytes'] / 1e6:,.0f} MB", part["cpu_ms_per_picture"])
        for name, part in result["parts"].items()
    ]
    delay, promised = result["delay"], result["promised"]
    lines = [
        f"{result['cameras']} cameras, a frame each {result['interval_s']:g} s of {result['packet_bytes']} bytes, "
        f"{result['receivers']} receivers, {result['seconds']:g} s",
        f"{result['pictures']} of {result['sent']} pictures shown, {result['pictures_per_s']} a second; delay p50 "
        f"{delay['p50_s']:.2f} s, p95 {delay['p95_s']:.2f} s, p99 {delay['p99_s']:.2f} s",
    ]
    if promised:
        lines.append(
            f"{promised} promised, {result['promised_lost']} not kept, {result['promised_shown_twice']} shown twice"
        )
    if result["dark_s"]:
        lines.append(
            f"after the kill {result['dark_s']['streams']} streams, dark for {result['dark_s']['p95']:.1f} s (p95)"
        )
    after = [
        f"others on this machine took {result['others_cores']} of {result['processors']} processors",
        f"binds: {result['binds']}",
        f"{'broker and ' if 'broker' in result['parts'] else ''}receivers on two cores, 80 % full: "
        f"{result['cameras_on_two_cores']} cameras",
    ]
    if result["heard_of_others"] is not None:
        after.append(f"heard of other shards' streams: {result['heard_of_others']:.1%} of the bytes")
    parts = table(("part", "cores", "memory", "CPU ms a picture"), rows)
    return Group(Text("\n".join(lines)), parts, Text("\n".join(after)))

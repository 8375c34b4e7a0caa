"""The command `edgesem bench fleet`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, table
from runtime.cli.frame_store import CataloguePasswordOption
from runtime.cli.options import Given, JsonOption, broker_options

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORST = 5
"""Streams that are named of those that were dark."""


@broker_options
def bench_fleet(
    broker: Given,
    cameras: Annotated[int, typer.Option(min=1, max=20_000, help="How many cameras to simulate.")] = 100,
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="How long they film, from the end of the warm-up.")
    ] = 20,
    warm_up: Annotated[
        float, typer.Option("--warm-up", min=0, max=3600, help="Seconds that they film before, without being counted.")
    ] = 20,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds from frame to frame of a camera.")] = 10,
    receivers: Annotated[int, typer.Option(min=1, max=64, help="How many receivers divide the streams.")] = 2,
    size_bytes: Annotated[int, typer.Option("--bytes", min=300, max=60_000, help="Most bytes of a frame.")] = 3000,
    inter_frames: Annotated[
        bool,
        typer.Option("--inter-frames/--no-inter-frames", help="Cameras refer to earlier frames that receivers hold."),
    ] = True,
    promise_every: Annotated[int, typer.Option(min=0, help="Promise every N-th frame; 0: none.")] = 0,
    rabbitmq: Annotated[
        bool, typer.Option("--rabbitmq", help="Start three nodes of RabbitMQ as a cluster, and no mosquitto.")
    ] = False,
    kill_receivers: Annotated[
        int, typer.Option(min=0, max=1000, help="So many times kill a receiver, and start it anew.")
    ] = 0,
    kill_nodes: Annotated[
        int, typer.Option(min=0, max=1000, help="So many times kill a node of the broker, and start it anew.")
    ] = 0,
    namespaces: Annotated[
        bool, typer.Option("--namespaces", help="Give each node of RabbitMQ a network of its own; needs root.")
    ] = False,
    cut_nodes: Annotated[
        int, typer.Option(min=0, max=1000, help="So many times cut a node of the broker off for 20 s.")
    ] = 0,
    add_receiver: Annotated[
        bool, typer.Option("--add-receiver", help="In the middle, add a receiver, and restart the others for it.")
    ] = False,
    catalogue: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="An empty database for the receivers' catalogue, postgresql://USER@HOST/NAME; emptied at the end.",
            show_default="none",
        ),
    ] = "",
    catalogue_password_file: CataloguePasswordOption = None,
    stop_catalogue_s: Annotated[
        float, typer.Option(min=0, max=3600, help="In the middle, keep receivers from the catalogue for so long.")
    ] = 0,
    json_: JsonOption = False,
) -> None:
    """Measure how many cameras a broker and receivers on this machine bear.

    Cameras are simulated: each has a connection of its own and follows the protocol with birth, state, inter frames and
    promised frames; the frames are of short sequences of 320x240 pixels that were coded once. Broker and receivers are
    real; without --broker, they are started. Delays are from capture to decoded.

    Example: edgesem bench fleet --cameras 100 --seconds 20
    """
    from edgesem.config import load_config
    from runtime.bench.fleet.bench import run_load
    from runtime.bench.fleet.load import Load
    from runtime.cli.ask_client import AskSettings

    load = Load(
        cameras=cameras,
        seconds=seconds,
        warm_up_s=warm_up,
        interval_s=interval,
        receivers=receivers,
        budget_bytes=size_bytes,
        inter_frames=inter_frames,
        promise_every=promise_every,
        broker="rabbitmq" if rabbitmq else "mosquitto",
        kill_receivers=kill_receivers,
        kill_nodes=kill_nodes,
        namespaces=namespaces,
        cut_nodes=cut_nodes,
        add_receiver=add_receiver,
        catalogue=catalogue,
        stop_catalogue_s=stop_catalogue_s,
    )
    given = broker["broker.host"] is not None or broker["broker.port"] is not None
    addresses = load_config(None, AskSettings, broker).broker.addresses() if given else []
    result = run_load(load, addresses, lambda words: log.print(words, markup=False), catalogue_password_file)
    emit(result, json_, _render)


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rows = [
        (name, part["cores"], f"{part['rss_bytes'] / 1e6:,.0f} MB", part["cpu_ms_per_picture"])
        for name, part in result["parts"].items()
    ]
    promised = result["promised"]
    lines = [
        f"{result['cameras']} cameras, a frame each {result['interval_s']:g} s of {result['packet_bytes']} bytes, "
        f"{result['receivers']} receivers, {result['seconds']:g} s",
        f"{result['pictures']} of {result['sent']} pictures shown, {result['pictures_per_s']} a second; "
        f"delay {_delay(result['delay'])}",
        f"{result['inter_share']:.0%} inter frames; {result['missing_reference']} came to a receiver that lacked their "
        "reference",
    ]
    if result["warm_up_s"]:
        lines.append(f"of those captured in the {result['warm_up_s']:g} s before: {_delay(result['warm_up_delay'])}")
    if promised:
        lines.append(
            f"{promised} promised, {result['promised_lost']} not kept, {result['promised_shown_twice']} shown twice"
        )
    catalogued = result["in_catalogue"]
    if catalogued:
        lost, twice, late_s = (catalogued[name] for name in ("promised_lost", "promised_twice", "caught_up_s"))
        away = (
            f"; away for {result['stop_catalogue_s']:g} s, caught up {late_s:.1f} s later" if late_s is not None else ""
        )
        lines.append(f"in the catalogue: {lost} promised frames lost, {twice} twice{away}")
    faults = {
        "receiver": "a receiver was killed",
        "node": "a node was killed",
        "link": "a node was cut off",
        "move": "a receiver was restarted because of one more",
    }
    for kind, dark in result["dark"].items():
        lines.append(
            f"{dark['kills']} times {faults[kind]}: streams dark for {dark['p50_s']:.1f} s (p50), "
            f"{dark['p95_s']:.1f} s (p95), {dark['max_s']:.1f} s at most"
        )
    dark = [one for one in result["dark_streams"] if one["times"]]
    if dark:
        worst = ", ".join(f"{one['stream'].split('/')[1]} {one['dark_s']:.1f} s" for one in dark[:_WORST])
        lines.append(f"{len(dark)} streams were dark for more than a second, longest in all: {worst}")
    after = [
        f"others on this machine took {result['others_cores']} of {result['processors']} processors",
        f"binds: {result['binds']}",
        f"{'broker and ' if 'broker' in result['parts'] else ''}receivers on two cores, 80 % full: "
        f"{result['cameras_on_two_cores']} cameras",
    ]
    if result["heard_of_others"] is not None:
        after.append(f"heard of other shards' streams: {result['heard_of_others']:.1%} of the bytes")
    parts = table(("part", "cores", "memory", "CPU ms a picture"), rows)
    nodes = [
        (number, *(f"{node[name] / 1e6:,.1f} MB" for name in ("received_bytes", "sent_bytes")))
        for number, node in enumerate(result["nodes"])
    ]
    carried = [table(("node of the broker", "received", "sent"), nodes)] if nodes else []
    windows = [
        (
            *(f"{one['from_s']:g}", one["pictures"]),
            *(f"{one[name]:.2f}" for name in ("p50_s", "p95_s", "max_s")),
            one["late_streams"],
        )
        for one in result["delay_over_time"]
    ]
    over_time = table(("captured after s", "pictures", "delay s, p50", "p95", "longest", "streams late"), windows)
    return Group(Text("\n".join(lines)), over_time, parts, *carried, Text("\n".join(after)))


def _delay(delay: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {delay[f'{name}_s']:.2f} s" for name in ("p50", "p95", "p99"))

"""The commands `edgesem fleet plan|status|accounts`: a fleet as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, table
from edgesem.errors import UsageError
from runtime.cli.event_output import print_json_line
from runtime.cli.options import Given, JsonOption, broker_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runtime.fleet.inventory import Inventory

_Inventory = Annotated[
    Path | None, typer.Option(help="TOML file of the fleet's devices and groups.", show_default="what is heard")
]
_Seconds = Annotated[float, typer.Option(min=1, max=600, help="How long to listen; a sender is heard each 10 s.")]


@broker_options
def status(
    broker: Given,
    inventory: _Inventory = None,
    group: Annotated[str | None, typer.Option(help="Only this group of the inventory.")] = None,
    seconds: _Seconds = 12.0,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if a camera needs attention.")] = False,
    http: Annotated[
        str,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve it as a page, until a signal comes; HOST: also to other machines."
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="With --http: name of a reverse proxy before it; repeatable.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show every camera of a broker: age, link, budget, program, bundle; what needs attention stands first.

    Listens to what senders say of themselves, and to no picture. With an inventory, cameras that are missing are shown.

    Example: edgesem fleet status --seconds 3
    """
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings
    from runtime.fleet.listener import FleetListener
    from runtime.fleet.status import FleetView

    settings = load_config(None, AskSettings, broker)
    known = _read(inventory)
    listener = FleetListener(key=settings.seal.key())
    view = FleetView(listener, None if known is None else known.groups, _group(known, group))
    if http:
        from runtime.fleet.page_server import serve

        def tell(url: str) -> None:
            if json_:
                print_json_line({"event": "ready", "url": url})
            else:
                log.print(f"the fleet is at {url}", markup=False)

        serve(settings.broker.addresses(), view, http, frozenset(allow_host or ()), tell)
        return
    listener.listen(settings.broker.addresses(), seconds)
    cameras = view.cameras()
    result = {"seconds": seconds, "malformed": listener.malformed, "cameras": [asdict(one) for one in cameras]}
    emit(result, json_, _render_status)
    if check and any(one.urgency for one in cameras):
        raise typer.Exit(1)


@broker_options
def plan(
    broker: Given,
    shards: Annotated[int, typer.Option(min=1, max=1023, help="How many receivers divide the streams.")] = 2,
    inventory: _Inventory = None,
    seconds: _Seconds = 12.0,
    fps: Annotated[
        float | None, typer.Option(min=0.0001, max=60, help="Frames a second of streams that are not heard.")
    ] = None,
    decode_ms: Annotated[
        float | None, typer.Option(min=0.1, max=60_000, help="Decoding time where no receiver has told one.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show how streams fall to the shards of `edgesem receive --shard`, and what each shard will bear.

    Listens to births, states and acknowledgements: how many frames come, and how long receivers take to decode one.

    Example: edgesem fleet plan --shards 4 --seconds 3 --decode-ms 20
    """
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings
    from runtime.fleet.listener import FleetListener
    from runtime.fleet.plan import plan

    settings = load_config(None, AskSettings, broker)
    known = _read(inventory)
    heard = {one.topics.base: one for one in FleetListener(acks=True).listen(settings.broker.addresses(), seconds)}
    streams = [one.topics for one in heard.values()]
    streams += [topics for topics in (known.streams if known is not None else ()) if topics.base not in heard]
    made = plan(streams, shards, heard, fps=fps, decode_s=None if decode_ms is None else decode_ms / 1000)
    emit(asdict(made) | {"streams": len(streams)}, json_, _render_plan)


def accounts(
    inventory: Annotated[Path, typer.Argument(metavar="INVENTORY", help="TOML file of the fleet.")],
    out: Annotated[Path, typer.Option(help="Folder for passwords and the broker's files; made if it is not there.")],
    rotate: Annotated[
        list[str] | None,
        typer.Option(
            help="Account that gets another login beside the one it has; repeatable, `all` for all.",
            show_default="none",
        ),
    ] = None,
    retire: Annotated[
        list[str] | None,
        typer.Option(
            help="Account whose earlier login goes, whoever uses it; repeatable, `all` for all.", show_default="none"
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Make a password for each device and receiver of an inventory, and the files of mosquitto and RabbitMQ.

    A password that is there already stays, so a later run adds new devices. Each account may use its own topics only.
    An account that is rotated has two logins until `edgesem device login` has seen its board with the later one.

    Example: edgesem fleet accounts fleet.toml --out accounts
    """
    from runtime.fleet.accounts import write_accounts
    from runtime.fleet.inventory import Inventory

    emit(write_accounts(Inventory.read(inventory), out, rotate or (), retire or ()), json_, _render_accounts)


def _read(path: Path | None) -> Inventory | None:
    from runtime.fleet.inventory import Inventory

    return None if path is None else Inventory.read(path)


def _group(known: Inventory | None, group: str | None) -> set[str] | None:
    if group is None:
        return None
    if known is None:
        raise UsageError("--group needs --inventory, the file that says which devices are in it")
    return {one.name for one in known.group(group)}


def _render_status(result: Mapping[str, Any]) -> RenderableType:
    rows = [
        (
            one["stream"],
            one["attention"] or "ok",
            _number(one["age_s"], "{:.1f} s"),
            _number(None if one["link_bps"] is None else one["link_bps"] / 1000, "{:,.0f} kbit/s"),
            _number(one["budget_bytes"], "{:,} B"),
            _number(one["promised_waiting"], "{}"),
            one["version"],
            one["bundle"],
        )
        for one in result["cameras"]
    ]
    ill = sum(one["urgency"] > 0 for one in result["cameras"])
    counted = f"{len(rows)} camera{'s' if len(rows) != 1 else ''}, {ill} need{'s' if ill == 1 else ''} attention"
    title = counted if rows else "no camera was heard"
    names = ("stream", "attention", "age", "link", "frame", "promised", "program", "bundle")
    return table(names, rows, title, left=2)


def _render_plan(result: Mapping[str, Any]) -> RenderableType:
    rows = [
        (str(one["index"]), len(one["streams"]), f"{one['pictures_per_s']:.2f}", f"{one['cores']:.3f}")
        for one in result["shards"]
    ]
    title = (
        f"{result['streams']} streams, {result['measured']} with a measured decoding time, else "
        f"{1000 * result['decode_s']:.0f} ms; one shard more would move {result['moving']}"
    )
    return table(("shard", "streams", "pictures/s", "cores for decoding"), rows, title)


def _render_accounts(result: Mapping[str, Any]) -> str:
    lines = [f"{result['accounts']} accounts in {result['folder']}, {len(result['new'])} with a new password"]
    lines += [f"{kind}: {path}" for kind, path in result["files"].items()]
    lines += [f"not in the inventory: {name}" for name in result["gone"]]
    lines += [f"removed: {name}" for name in result["removed"]]
    lines += [f"not rotated, as its board was not seen with its latest login yet: {name}" for name in result["waiting"]]
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)

"""The commands of `edgesem ask`: each sends one command, such as `snapshot`, to a running sender."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit
from edgesem.errors import PacketError, UsageError
from runtime.cli.options import BrokerGiven, BundleOption, JsonOption, broker_options
from runtime.protocol.command import Command

if TYPE_CHECKING:
    from runtime.protocol.topics import Topics

_Stream = Annotated[
    str | None,
    typer.Argument(
        metavar="SITE/DEVICE/STREAM", help="Stream of the sender; with --group left out.", show_default=False
    ),
]
_Group = Annotated[str | None, typer.Option(help="Ask all senders of this group of the inventory.")]
_Inventory = Annotated[Path | None, typer.Option(help="With --group: TOML file of the fleet's devices and groups.")]
_Box = Annotated[
    str | None,
    typer.Argument(
        show_default=False,
        metavar="BOX",
        help="left,top,width,height as shares of the picture, such as 0.25,0.2,0.5,0.5; or `off`.",
    ),
]


@broker_options
def snapshot(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    size_bytes: Annotated[
        int, typer.Option("--bytes", min=256, max=65535, help="Largest size of the frame, in bytes.")
    ] = 8000,
    json_: JsonOption = False,
) -> None:
    """Have a sender promise its newest frame: it is delivered whole, however long that takes.

    The sender keeps the frame on its disk until a receiver with --out has it on its own.

    Example: edgesem ask snapshot home/gate/main --bytes 12000
    """
    _ask(_targets(stream, group, inventory), broker, json_, "snapshot", size_bytes=size_bytes)


@broker_options
def key(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    json_: JsonOption = False,
) -> None:
    """Have a sender code its next frame as a keyframe.

    Example: edgesem ask key home/gate/main
    """
    _ask(_targets(stream, group, inventory), broker, json_, "key")


@broker_options
def pause(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds to pause for; 0: until `edgesem ask resume`.")
    ] = 0,
    json_: JsonOption = False,
) -> None:
    """Have a sender send no frames for a time.

    Example: edgesem ask pause home/gate/main --seconds 600
    """
    _ask(_targets(stream, group, inventory), broker, json_, "pause", pause_s=seconds)


@broker_options
def resume(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    json_: JsonOption = False,
) -> None:
    """End the pause of a sender.

    Example: edgesem ask resume home/gate/main
    """
    _ask(_targets(stream, group, inventory), broker, json_, "resume")


@broker_options
def budget(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    max_bytes: Annotated[
        int | None,
        typer.Option(help="Largest ordinary frame, 256 to 200000 bytes; 0: as at its start.", show_default="as it is"),
    ] = None,
    max_rate_bps: Annotated[
        int | None,
        typer.Option(help="Most bits a second of ordinary frames; 0: as at its start.", show_default="as it is"),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Have a sender spend fewer bytes on ordinary frames, or more again; promised frames are not held up.

    It holds until the sender ends. A sender's state says what holds.

    Example: edgesem ask budget home/gate/main --max-bytes 3000 --max-rate-bps 8000
    """
    if max_bytes is None and max_rate_bps is None:
        raise UsageError("say what to change: --max-bytes, --max-rate-bps, or both")
    _ask(_targets(stream, group, inventory), broker, json_, "budget", max_bytes=max_bytes, max_rate_bps=max_rate_bps)


@broker_options
def event(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    label: Annotated[
        str, typer.Option(help="What the event is called, at most 100 characters.", show_default=False)
    ] = "",
    json_: JsonOption = False,
) -> None:
    """Have a sender make an event now: frames of the last seconds and of the next ones are delivered, as one clip.

    The sender must run with --events; a receiver with --out makes the clip.

    Example: edgesem ask event home/gate/main --label "door bell"
    """
    _ask(_targets(stream, group, inventory), broker, json_, "event", label=label)


@broker_options
def view(
    stream: _Stream = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    seconds: Annotated[
        int, typer.Option(min=0, max=600, help="Seconds to send pictures for; 0: no more than who else watches needs.")
    ] = 60,
    json_: JsonOption = False,
) -> None:
    """Have a sender on demand send pictures for a time, as if somebody watched; other senders send them always.

    Each call replaces the one before. Whoever watches at a receiver is counted besides.

    Example: edgesem ask view home/gate/main --seconds 120
    """
    _ask(_targets(stream, group, inventory), broker, json_, "view", lease_s=seconds)


@broker_options
def watch(
    stream: _Stream = None,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to look for from now on.", show_default="nothing"),
    ] = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    bundle: BundleOption = None,
    json_: JsonOption = False,
) -> None:
    """Have a sender look for something else from now on, or for nothing.

    The text is encoded here, so that the board needs no text encoder. Without one here (pip install '.[text]')
    it must be one of the bundle's labels.

    Example: edgesem ask watch home/gate/main "a truck" "a person with a dog"
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.semantics.embedding import Labels, to_bytes

    queries = tuple(texts or ())
    if group is not None and stream is not None:  # there is no stream then, so this is the first text
        queries, stream = (stream, *queries), None
    labels = Labels.of(Bundle.open(bundle)) if queries else None
    vectors = tuple(to_bytes(labels.query(text).vector) for text in queries) if labels else ()
    _ask(_targets(stream, group, inventory), broker, json_, "watch", queries=queries, vectors=vectors)


@broker_options
def roi(
    stream: _Stream = None,
    box: _Box = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    json_: JsonOption = False,
) -> None:
    """Have a sender crop its pictures to a region of interest; `off`: send them whole again.

    Example: edgesem ask roi home/gate/main 0.0,0.5,1.0,0.5
    """
    stream, box = _stream_and_box(stream, box, group)
    _ask(_targets(stream, group, inventory), broker, json_, "roi", **({} if box == "off" else {"roi": _shares(box)}))


@broker_options
def region(
    stream: _Stream = None,
    box: _Box = None,
    group: _Group = None,
    inventory: _Inventory = None,
    *,
    broker: BrokerGiven,
    drop: Annotated[
        int, typer.Option(min=1, max=255, help="How many of the 255 quality levels the rest is coarser.")
    ] = 90,
    json_: JsonOption = False,
) -> None:
    """Have a sender code a region of its pictures finer than the rest, in as many bytes as before.

    Example: edgesem ask region home/gate/main 0.25,0.2,0.5,0.5
    """
    stream, box = _stream_and_box(stream, box, group)
    _ask(
        _targets(stream, group, inventory),
        broker,
        json_,
        "region",
        **({"drop": 0} if box == "off" else {"roi": _shares(box), "drop": drop}),
    )


def _shares(box: str) -> tuple[float, float, float, float]:
    from edgesem.codec.region import parse_box

    if "." not in box:
        raise UsageError(f"{box!r}: only the sender knows its pictures' size, so write parts of the whole: 0.5,0,0.5,1")
    return parse_box(box, 1, 1)


def _stream_and_box(stream: str | None, box: str | None, group: str | None) -> tuple[str | None, str]:
    """With --group there is no stream, so what stands in its place is the box."""
    if group is not None and box is None:
        stream, box = None, stream
    if box is None:
        raise UsageError("no BOX named: write left,top,width,height as shares of the picture, or off")
    return stream, box


def _targets(stream: str | None, group: str | None, inventory: Path | None) -> list[Topics] | Topics:
    """The one stream that was named, or those of the group."""
    from runtime.fleet.inventory import Inventory
    from runtime.protocol.topics import Topics

    if (stream is None) == (group is None):
        raise UsageError("name one SITE/DEVICE/STREAM, or --group with --inventory")
    if stream is not None:
        return Topics.named(stream)
    if inventory is None or group is None:
        raise UsageError("--group needs --inventory, the file that says which devices are in it")
    return Inventory.read(inventory).group(group)


def _ask(target: list[Topics] | Topics, broker: BrokerGiven, as_json: bool, kind: str, **fields: object) -> None:
    """Send the command and print what was asked. UsageError for fields that cannot be."""
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings, ask, ask_all

    try:
        command = Command(kind, **fields)  # type: ignore[arg-type]
    except PacketError as error:
        raise UsageError(str(error)) from error
    settings = load_config(None, AskSettings, broker)
    addresses, key = settings.broker.addresses(), settings.seal.key()
    if isinstance(target, list):
        troubles = ask_all(addresses, target, command, key)
        streams = [{"stream": name, "asked": not trouble, "error": trouble} for name, trouble in troubles.items()]
        emit({"asked": kind, "streams": streams}, as_json, _render_group)
        if any(troubles.values()):
            raise typer.Exit(1)
        return
    ask(addresses, target, command, key)
    name = f"{target.site}/{target.device}/{target.stream}"
    emit({"stream": name, "asked": kind}, as_json, lambda r: f"{r['stream']} was asked: {r['asked']}")


def _render_group(result: Mapping[str, Any]) -> str:
    failed = [one for one in result["streams"] if not one["asked"]]
    lines = [f"{len(result['streams']) - len(failed)} of {len(result['streams'])} were asked: {result['asked']}"]
    return "\n".join([*lines, *(f"{one['stream']}: {one['error']}" for one in failed)])

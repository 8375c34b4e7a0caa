"""The commands of `edgesem ask`: each sends one command, such as `snapshot`, to a running sender."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import PacketError, UsageError
from runtime.cli.options import BundleOption, Given, JsonOption, broker_options, expanded
from runtime.protocol.command import Command

if TYPE_CHECKING:
    from runtime.protocol.topics import Topics

_Box = Annotated[
    str | None,
    typer.Argument(
        show_default=False,
        metavar="BOX",
        help="left,top,width,height as shares of the picture, such as 0.25,0.2,0.5,0.5; or `off`.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class _Sender:
    """Whom a command asks, and how the answer is printed: the options of every command."""

    stream: Annotated[
        str | None,
        typer.Argument(
            metavar="SITE/DEVICE/STREAM", help="Stream of the sender; with --group left out.", show_default=False
        ),
    ] = None
    group: Annotated[str | None, typer.Option(help="Ask all senders of this group of the inventory.")] = None
    inventory: Annotated[
        Path | None, typer.Option(help="With --group: TOML file of the fleet's devices and groups.")
    ] = None
    broker: Given
    json_: JsonOption = False

    def without_stream(self) -> tuple[_Sender, tuple[str, ...]]:
        """The sender, and with --group, which needs no stream, the first argument: what stands in its place."""
        if self.group is None or self.stream is None:
            return self, ()
        return replace(self, stream=None), (self.stream,)

    def targets(self) -> list[Topics] | Topics:
        """The one stream that was named, or those of the group."""
        from runtime.fleet.inventory import Inventory
        from runtime.protocol.topics import Topics

        if (self.stream is None) == (self.group is None):
            raise UsageError("name one SITE/DEVICE/STREAM, or --group with --inventory")
        if self.stream is not None:
            return Topics.named(self.stream)
        if self.inventory is None or self.group is None:
            raise UsageError("--group needs --inventory, the file that says which devices are in it")
        return Inventory.read(self.inventory).group(self.group)


def _to_sender(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with the options of `_Sender` in place of its parameter `sender`."""
    parameters = inspect.signature(_Sender, eval_str=True).parameters.values()
    return broker_options(expanded(command, "sender", parameters, _Sender))


@_to_sender
def snapshot(
    sender: _Sender,
    size_bytes: Annotated[
        int, typer.Option("--bytes", min=256, max=65535, help="Largest size of the frame, in bytes.")
    ] = 8000,
) -> None:
    """Have a sender promise its newest frame: it is delivered whole, however long that takes.

    The sender keeps the frame on its disk until a receiver with --out has it on its own.

    Example: edgesem ask snapshot home/gate/main --bytes 12000
    """
    _ask(sender, "snapshot", size_bytes=size_bytes)


@_to_sender
def key(sender: _Sender) -> None:
    """Have a sender code its next frame as a keyframe.

    Example: edgesem ask key home/gate/main
    """
    _ask(sender, "key")


@_to_sender
def pause(
    sender: _Sender,
    seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds to pause for; 0: until `edgesem ask resume`.")
    ] = 0,
) -> None:
    """Have a sender send no frames for a time.

    Example: edgesem ask pause home/gate/main --seconds 600
    """
    _ask(sender, "pause", pause_s=seconds)


@_to_sender
def resume(sender: _Sender) -> None:
    """End the pause of a sender.

    Example: edgesem ask resume home/gate/main
    """
    _ask(sender, "resume")


@_to_sender
def budget(
    sender: _Sender,
    max_bytes: Annotated[
        int | None,
        typer.Option(help="Largest ordinary frame, 256 to 200000 bytes; 0: as at its start.", show_default="as it is"),
    ] = None,
    max_rate_bps: Annotated[
        int | None,
        typer.Option(help="Most bits a second of ordinary frames; 0: as at its start.", show_default="as it is"),
    ] = None,
) -> None:
    """Have a sender spend fewer bytes on ordinary frames, or more again; promised frames are not held up.

    It holds until the sender ends. A sender's state says what holds.

    Example: edgesem ask budget home/gate/main --max-bytes 3000 --max-rate-bps 8000
    """
    if max_bytes is None and max_rate_bps is None:
        raise UsageError("say what to change: --max-bytes, --max-rate-bps, or both")
    _ask(sender, "budget", max_bytes=max_bytes, max_rate_bps=max_rate_bps)


@_to_sender
def event(
    sender: _Sender,
    label: Annotated[
        str, typer.Option(help="What the event is called, at most 100 characters.", show_default=False)
    ] = "",
) -> None:
    """Have a sender make an event now: frames of the last seconds and of the next ones are delivered, as one clip.

    The sender must run with --events; a receiver with --out makes the clip.

    Example: edgesem ask event home/gate/main --label "door bell"
    """
    _ask(sender, "event", label=label)


@_to_sender
def view(
    sender: _Sender,
    seconds: Annotated[
        int, typer.Option(min=0, max=600, help="Seconds to send pictures for; 0: no more than who else watches needs.")
    ] = 60,
) -> None:
    """Have a sender on demand send pictures for a time, as if somebody watched; other senders send them always.

    Each call replaces the one before. Whoever watches at a receiver is counted besides.

    Example: edgesem ask view home/gate/main --seconds 120
    """
    _ask(sender, "view", lease_s=seconds)


@_to_sender
def watch(
    sender: _Sender,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to look for from now on.", show_default="nothing"),
    ] = None,
    bundle: BundleOption = None,
) -> None:
    """Have a sender look for something else from now on, or for nothing.

    The text is encoded here, so that the board needs no text encoder. Without one here (pip install '.[text]')
    it must be one of the bundle's labels.

    Example: edgesem ask watch home/gate/main "a truck" "a person with a dog"
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.semantics.embedding import Labels, to_bytes

    sender, first = sender.without_stream()
    queries = (*first, *(texts or ()))
    labels = Labels.of(Bundle.open(bundle)) if queries else None
    vectors = tuple(to_bytes(labels.query(text).vector) for text in queries) if labels else ()
    _ask(sender, "watch", queries=queries, vectors=vectors)


@_to_sender
def roi(
    sender: _Sender,
    box: _Box = None,
) -> None:
    """Have a sender crop its pictures to a region of interest; `off`: send them whole again.

    Example: edgesem ask roi home/gate/main 0.0,0.5,1.0,0.5
    """
    sender, part = _with_box(sender, box)
    _ask(sender, "roi", **({} if part == "off" else {"roi": _shares(part)}))


@_to_sender
def region(
    sender: _Sender,
    box: _Box = None,
    drop: Annotated[
        int, typer.Option(min=1, max=255, help="How many of the 255 quality levels the rest is coarser.")
    ] = 90,
) -> None:
    """Have a sender code a region of its pictures finer than the rest, in as many bytes as before.

    Example: edgesem ask region home/gate/main 0.25,0.2,0.5,0.5
    """
    sender, part = _with_box(sender, box)
    _ask(sender, "region", **({"drop": 0} if part == "off" else {"roi": _shares(part), "drop": drop}))


def _shares(box: str) -> tuple[float, float, float, float]:
    from edgesem.codec.region import parse_box

    if "." not in box:
        raise UsageError(f"{box!r}: only the sender knows its pictures' size, so write parts of the whole: 0.5,0,0.5,1")
    return parse_box(box, 1, 1)


def _with_box(sender: _Sender, box: str | None) -> tuple[_Sender, str]:
    """The sender, and the box; with --group that may stand in the place of the stream."""
    if box is None:
        sender, first = sender.without_stream()
        box = next(iter(first), None)
    if box is None:
        raise UsageError("no BOX named: write left,top,width,height as shares of the picture, or off")
    return sender, box


def _ask(sender: _Sender, kind: str, **fields: object) -> None:
    """Send the command and print what was asked. UsageError for fields that cannot be."""
    from rich.text import Text

    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings, ask, ask_all

    try:
        command = Command(kind, **fields)  # type: ignore[arg-type]
    except PacketError as error:
        raise UsageError(str(error)) from error
    target, settings = sender.targets(), load_config(None, AskSettings, sender.broker)
    addresses, key = settings.broker.addresses(), settings.seal.key()
    if isinstance(target, list):
        with log.status(Text(f"asking {len(target)} senders")):
            troubles = ask_all(addresses, target, command, key)
        streams = [{"stream": name, "asked": not trouble, "error": trouble} for name, trouble in troubles.items()]
        emit({"asked": kind, "streams": streams}, sender.json_, _render_group)
        if any(troubles.values()):
            raise typer.Exit(1)
        return
    with log.status(Text(f"asking {target.name}")):  # in a name, brackets are no markup
        ask(addresses, target, command, key)
    emit({"stream": target.name, "asked": kind}, sender.json_, lambda r: f"{r['stream']} was asked: {r['asked']}")


def _render_group(result: Mapping[str, Any]) -> str:
    failed = [one for one in result["streams"] if not one["asked"]]
    lines = [f"{len(result['streams']) - len(failed)} of {len(result['streams'])} were asked: {result['asked']}"]
    return "\n".join([*lines, *(f"{one['stream']}: {one['error']}" for one in failed)])

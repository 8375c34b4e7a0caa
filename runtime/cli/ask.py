"""The commands `edgesem ask snapshot|key|pause|resume|roi|region|watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesem.cli.console import emit
from edgesem.errors import PacketError, UsageError
from runtime.cli.broker_flags import BrokerGiven, broker_flags
from runtime.protocol.command import Command

_Stream = Annotated[str, typer.Argument(metavar="SITE/DEVICE/STREAM", help="The sender's stream.")]
_Box = Annotated[str, typer.Argument(help="x,y,w,h in parts of the whole, such as 0.25,0.2,0.5,0.5; or `off`.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@broker_flags
def snapshot(
    stream: _Stream,
    broker: BrokerGiven,
    size_bytes: Annotated[int, typer.Option("--bytes", min=256, max=65535, help="The most that it may have.")] = 8000,
    json_: _Json = False,
) -> None:
    """Have a sender promise its newest frame, whole and in so many bytes: a receiver with --out keeps it.

    Example: edgesem ask snapshot home/gate/main --bytes 12000
    """
    _say(stream, _command("snapshot", size_bytes=size_bytes), broker, json_)


@broker_flags
def key(stream: _Stream, broker: BrokerGiven, json_: _Json = False) -> None:
    """Have a sender's next packet refer to no earlier one.

    Example: edgesem ask key home/gate/main
    """
    _say(stream, _command("key"), broker, json_)


@broker_flags
def pause(
    stream: _Stream,
    broker: BrokerGiven,
    seconds: Annotated[float, typer.Option(min=0, max=86400, help="How long; 0: until `edgesem ask resume`.")] = 0,
    json_: _Json = False,
) -> None:
    """Have a sender take no frames for a time.

    Example: edgesem ask pause home/gate/main --seconds 600
    """
    _say(stream, _command("pause", pause_s=seconds), broker, json_)


@broker_flags
def resume(stream: _Stream, broker: BrokerGiven, json_: _Json = False) -> None:
    """End a sender's pause.

    Example: edgesem ask resume home/gate/main
    """
    _say(stream, _command("resume"), broker, json_)


@broker_flags
def watch(
    stream: _Stream,
    broker: BrokerGiven,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to look for from now on.", show_default="nothing"),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The sender's bundle.", show_default="ships")] = None,
    json_: _Json = False,
) -> None:
    """Have a sender look for something else from now on, or for nothing.

    The text is encoded here where a text encoder is installed, so that the board needs none; otherwise it must name
    one of the bundle's labels.

    Example: edgesem ask watch home/gate/main "a truck" "a person with a dog"
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.semantics.embedding import Labels, to_bytes

    queries = tuple(texts or ())
    labels = Labels.of(Bundle.open(bundle)) if queries else None
    vectors = tuple(to_bytes(labels.query(text).vector) for text in queries) if labels else ()
    _say(stream, _command("watch", queries=queries, vectors=vectors), broker, json_)


@broker_flags
def roi(stream: _Stream, box: _Box, broker: BrokerGiven, json_: _Json = False) -> None:
    """Have a sender send nothing but a part of its pictures from now on.

    Example: edgesem ask roi home/gate/main 0.0,0.5,1.0,0.5
    """
    command = _command("roi") if box == "off" else _command("roi", roi=_parts(box))
    _say(stream, command, broker, json_)


@broker_flags
def region(
    stream: _Stream,
    box: _Box,
    broker: BrokerGiven,
    drop: Annotated[int, typer.Option(min=1, max=255, help="How many of 255 levels the rest is coarser.")] = 90,
    json_: _Json = False,
) -> None:
    """Have a sender code a part of its pictures finer than the rest, in as many bytes as before.

    Example: edgesem ask region home/gate/main 0.25,0.2,0.5,0.5
    """
    command = _command("region", drop=0) if box == "off" else _command("region", roi=_parts(box), drop=drop)
    _say(stream, command, broker, json_)


def _parts(box: str) -> tuple[float, float, float, float]:
    from edgesem.codec.region import parse_box

    if "." not in box:
        raise UsageError(f"{box!r}: only the sender knows its pictures' size, so write parts of the whole: 0.5,0,0.5,1")
    return parse_box(box, 1, 1)


def _command(kind: str, **fields: object) -> Command:
    try:
        return Command(kind, **fields)  # type: ignore[arg-type]
    except PacketError as error:
        raise UsageError(str(error)) from error


def _say(stream: str, command: Command, broker: BrokerGiven, as_json: bool) -> None:
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings, ask
    from runtime.protocol.topics import Topics

    settings = load_config(None, AskSettings, broker)
    ask(settings.broker.address(), Topics.named(stream), command, settings.seal.key())
    emit({"stream": stream, "asked": command.kind}, as_json, lambda r: f"{r['stream']} was asked: {r['asked']}")

"""The commands `edgesem ask snapshot|key|pause|resume|roi|region|watch`: each sends one command to a running sender."""

from __future__ import annotations

from typing import Annotated

import typer

from edgesem.cli.console import emit
from edgesem.errors import PacketError, UsageError
from runtime.cli.options import BrokerGiven, BundleOption, JsonOption, broker_options
from runtime.protocol.command import Command

_Stream = Annotated[str, typer.Argument(metavar="SITE/DEVICE/STREAM", help="Stream of the sender.")]
_Box = Annotated[
    str,
    typer.Argument(
        metavar="BOX", help="left,top,width,height as shares of the picture, such as 0.25,0.2,0.5,0.5; or `off`."
    ),
]


@broker_options
def snapshot(
    stream: _Stream,
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
    _ask(stream, broker, json_, "snapshot", size_bytes=size_bytes)


@broker_options
def key(stream: _Stream, broker: BrokerGiven, json_: JsonOption = False) -> None:
    """Have a sender code its next frame as a keyframe.

    Example: edgesem ask key home/gate/main
    """
    _ask(stream, broker, json_, "key")


@broker_options
def pause(
    stream: _Stream,
    broker: BrokerGiven,
    seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="Seconds to pause for; 0: until `edgesem ask resume`.")
    ] = 0,
    json_: JsonOption = False,
) -> None:
    """Have a sender send no frames for a time.

    Example: edgesem ask pause home/gate/main --seconds 600
    """
    _ask(stream, broker, json_, "pause", pause_s=seconds)


@broker_options
def resume(stream: _Stream, broker: BrokerGiven, json_: JsonOption = False) -> None:
    """End the pause of a sender.

    Example: edgesem ask resume home/gate/main
    """
    _ask(stream, broker, json_, "resume")


@broker_options
def watch(
    stream: _Stream,
    broker: BrokerGiven,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to look for from now on.", show_default="nothing"),
    ] = None,
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
    labels = Labels.of(Bundle.open(bundle)) if queries else None
    vectors = tuple(to_bytes(labels.query(text).vector) for text in queries) if labels else ()
    _ask(stream, broker, json_, "watch", queries=queries, vectors=vectors)


@broker_options
def roi(stream: _Stream, box: _Box, broker: BrokerGiven, json_: JsonOption = False) -> None:
    """Have a sender crop its pictures to a region of interest; `off`: send them whole again.

    Example: edgesem ask roi home/gate/main 0.0,0.5,1.0,0.5
    """
    _ask(stream, broker, json_, "roi", **({} if box == "off" else {"roi": _shares(box)}))


@broker_options
def region(
    stream: _Stream,
    box: _Box,
    broker: BrokerGiven,
    drop: Annotated[
        int, typer.Option(min=1, max=255, help="How many of the 255 quality levels the rest is coarser.")
    ] = 90,
    json_: JsonOption = False,
) -> None:
    """Have a sender code a region of its pictures finer than the rest, in as many bytes as before.

    Example: edgesem ask region home/gate/main 0.25,0.2,0.5,0.5
    """
    _ask(stream, broker, json_, "region", **({"drop": 0} if box == "off" else {"roi": _shares(box), "drop": drop}))


def _shares(box: str) -> tuple[float, float, float, float]:
    from edgesem.codec.region import parse_box

    if "." not in box:
        raise UsageError(f"{box!r}: only the sender knows its pictures' size, so write parts of the whole: 0.5,0,0.5,1")
    return parse_box(box, 1, 1)


def _ask(stream: str, broker: BrokerGiven, as_json: bool, kind: str, **fields: object) -> None:
    """Send the command and print what was asked. UsageError for fields that cannot be."""
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings, ask
    from runtime.protocol.topics import Topics

    try:
        command = Command(kind, **fields)  # type: ignore[arg-type]
    except PacketError as error:
        raise UsageError(str(error)) from error
    settings = load_config(None, AskSettings, broker)
    ask(settings.broker.address(), Topics.named(stream), command, settings.seal.key())
    emit({"stream": stream, "asked": kind}, as_json, lambda r: f"{r['stream']} was asked: {r['asked']}")

"""The command `edgesem ask detail`: a part of the picture in the camera's full resolution."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit
from edgesem.errors import LinkError, PacketError, UsageError
from edgesem.files import write_whole
from runtime.cli.options import BundleOption, Given, JsonOption, broker_options
from runtime.protocol.command import Command

if TYPE_CHECKING:
    from runtime.mqtt.address import Address
    from runtime.protocol.topics import Topics
    from runtime.receiver.received_picture import ReceivedPicture
    from runtime.receiver.stream import Stream
    from runtime.receiver.stream_receiver import StreamReceiver

_KINDS = (".png", ".jpg", ".es")
_HEARD_S = 15.0
"""A running sender publishes its state, or the broker has it retained."""


@broker_options
def detail(
    stream: Annotated[str, typer.Argument(metavar="SITE/DEVICE/STREAM", help="Stream of the sender.")],
    broker: Given,
    roi: Annotated[
        str,
        typer.Option(
            metavar="X,Y,W,H",
            help="Left, top, width and height of the part, as shares of the picture.",
            show_default=False,
        ),
    ],
    size_bytes: Annotated[
        int, typer.Option("--bytes", min=256, max=65535, help="Largest size of what is sent, in bytes.")
    ] = 8000,
    out: Annotated[
        Path | None,
        typer.Option(help="Wait for it and write it to this .png, .jpg or .es (packet).", show_default="do not wait"),
    ] = None,
    wait: Annotated[float, typer.Option(min=1, max=3600, help="With --out: wait at most so many seconds.")] = 60,
    bundle: BundleOption = None,
    json_: JsonOption = False,
) -> None:
    """Have a sender send a part of its newest picture in the camera's full resolution.

    The sender must run with --detail. It works in a pause, too, and keeps the detail on its disk until a receiver with
    --out has it on its own, or this command has written it.

    Example: edgesem ask detail home/gate/main --roi 0.4,0.3,0.2,0.2 --bytes 12000 --out plate.png
    """
    from edgesem.codec.region import parse_box
    from edgesem.config import load_config
    from runtime.cli.ask_client import AskSettings, ask
    from runtime.protocol.topics import Topics

    if out is not None and out.suffix.lower() not in _KINDS:
        raise UsageError(f"{out}: a detail is written as {', '.join(_KINDS)}")
    if "." not in roi:
        raise UsageError(f"--roi {roi}: write shares of the picture, such as 0.4,0.3,0.2,0.2")
    try:
        command = Command("detail", roi=parse_box(roi, 1, 1), size_bytes=size_bytes)
    except PacketError as error:
        raise UsageError(str(error)) from error
    settings, topics = load_config(None, AskSettings, broker), Topics.named(stream)
    addresses, key = settings.broker.addresses(), settings.seal.key()
    if out is None:
        ask(addresses, topics, command, key)
        emit({"stream": stream, "asked": "detail"}, json_, lambda r: f"{r['stream']} was asked: {r['asked']}")
        return
    result = _fetch(addresses, topics, command, key, bundle, out, wait)
    emit({"stream": stream, **result}, json_, _render)


def _fetch(
    addresses: Sequence[Address],
    topics: Topics,
    command: Command,
    key: bytes | None,
    bundle: Path | None,
    out: Path,
    wait_s: float,
) -> dict[str, Any]:
    """Ask for a detail, wait for it, write it, and tell its sender that it is kept. LinkError if it does not come."""
    from runtime.receiver.options import ReceiverOptions
    from runtime.receiver.stream_receiver import StreamReceiver

    name, deadline_s = topics.name, time.monotonic() + wait_s
    options = ReceiverOptions(decoders=1, view="never")
    with StreamReceiver(addresses, name, options, bundle=bundle, key=key) as receiver:
        stream = _heard(receiver, name, min(wait_s, _HEARD_S), sealed=key is not None)
        receiver.command(stream, command)
        asked_s = time.monotonic()
        while (left_s := deadline_s - time.monotonic()) > 0:
            picture = receiver.next_picture(left_s)
            mark = None if picture is None else picture.packet.side_info.detail
            if picture is not None and mark is not None and mark.request == command.id & 0xFFFFFFFF:
                write_whole(out, _encode(picture, out.suffix.lower().removeprefix(".")))
                receiver.acknowledge_kept(picture)
                info = picture.info
                return {
                    "file": str(out),
                    "roi": list(mark.roi),
                    "width": info.width,
                    "height": info.height,
                    "size_bytes": info.size_bytes,
                    "waited_s": round(time.monotonic() - asked_s, 2),
                }
    raise LinkError(
        f"no detail of {name} came within {wait_s:g} s: it stays with its sender until a receiver with --out has it"
    )


def _heard(receiver: StreamReceiver, name: str, patience_s: float, *, sealed: bool) -> Stream:
    """The stream, once its state has come and it can be asked. LinkError if nothing comes, UsageError if its sender
    gives no details."""
    deadline_s = time.monotonic() + patience_s
    while True:
        stream = receiver.streams.find(name)
        state = None if stream is None else stream.state
        if stream is not None and state is not None and (stream.birth is not None or not sealed):
            if state.detail is None:
                raise UsageError(f"{name} keeps no pictures in full resolution: start its sender with --detail")
            if receiver.connection.connected:  # retained messages come before it says so
                return stream
        if time.monotonic() > deadline_s:
            why = receiver.connection.trouble or "check SITE/DEVICE/STREAM, and that the sender is connected"
            raise LinkError(f"nothing is heard of {name}: {why}")
        receiver.wait(0.05)


def _encode(picture: ReceivedPicture, kind: str) -> bytes:
    from runtime.receiver.sinks import encode_picture

    return picture.packet.to_bytes() if kind == "es" else encode_picture(picture.image, kind, picture.provenance)


def _render(result: Mapping[str, Any]) -> str:
    return (
        f"{result['file']}: {result['width']}x{result['height']} pixels from {result['size_bytes']} bytes, "
        f"after {result['waited_s']:.1f} s"
    )

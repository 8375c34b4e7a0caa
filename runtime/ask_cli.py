"""The commands `edgesem ask watch` and `edgesem ask region`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesem.console import emit
from edgesem.errors import PacketError, UsageError
from runtime.command import Command

_Stream = Annotated[str, typer.Argument(metavar="SITE/DEVICE/STREAM", help="The sender's stream.")]
_Host = Annotated[str, typer.Option(help="The broker.")]
_Port = Annotated[int, typer.Option(help="Its port.")]
_User = Annotated[str, typer.Option(help="Who we are to the broker.", show_default="nobody")]
_Password = Annotated[Path | None, typer.Option(help="File with the password.", show_default="$EDGESEM_PASSWORD")]
_Tls = Annotated[bool, typer.Option("--tls", help="Connect by TLS.")]
_Ca = Annotated[Path | None, typer.Option(help="Who must have signed the broker's certificate.")]
_Key = Annotated[Path | None, typer.Option(help="Key of a sealed stream.", show_default="$EDGESEM_SEAL_KEY")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def watch(
    stream: _Stream,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to look for from now on.", show_default="nothing"),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The sender's bundle.", show_default="ships")] = None,
    host: _Host = "127.0.0.1",
    port: _Port = 1883,
    user: _User = "",
    password_file: _Password = None,
    tls: _Tls = False,
    ca_file: _Ca = None,
    seal_key_file: _Key = None,
    json_: _Json = False,
) -> None:
    """Have a sender look for something else from now on, or for nothing.

    The text is encoded here where a text encoder is installed, so that the board needs none; otherwise it must name
    one of the bundle's labels.

    Example: edgesem ask watch home/gate/main "a truck" "a person with a dog"
    """
    from edgesem.bundle import Bundle
    from edgesem.semantics import Labels, to_bytes

    queries = tuple(texts or ())
    labels = Labels.of(Bundle.open(bundle)) if queries else None
    vectors = tuple(to_bytes(labels.query(text).vector) for text in queries) if labels else ()
    command = _command("watch", queries=queries, vectors=vectors)
    _say(stream, command, (host, port, user, password_file, tls, ca_file, seal_key_file), json_)


def region(
    stream: _Stream,
    box: Annotated[str, typer.Argument(help="x,y,w,h in parts of the whole, such as 0.25,0.2,0.5,0.5; or `off`.")],
    drop: Annotated[int, typer.Option(min=1, max=255, help="How many of 255 levels the rest is coarser.")] = 90,
    host: _Host = "127.0.0.1",
    port: _Port = 1883,
    user: _User = "",
    password_file: _Password = None,
    tls: _Tls = False,
    ca_file: _Ca = None,
    seal_key_file: _Key = None,
    json_: _Json = False,
) -> None:
    """Have a sender code a part of its pictures finer than the rest, in as many bytes as before.

    Example: edgesem ask region home/gate/main 0.25,0.2,0.5,0.5
    """
    from edgesem.region import parse_box

    if box == "off":
        command = _command("region", drop=0)
    elif "." not in box:
        raise UsageError(f"{box!r}: only the sender knows its pictures' size, so write parts of the whole: 0.5,0,0.5,1")
    else:
        command = _command("region", roi=parse_box(box, 1, 1), drop=drop)
    _say(stream, command, (host, port, user, password_file, tls, ca_file, seal_key_file), json_)


def _command(kind: str, **fields: object) -> Command:
    try:
        return Command(kind, **fields)  # type: ignore[arg-type]
    except PacketError as error:
        raise UsageError(str(error)) from error


def _say(
    stream: str,
    command: Command,
    where: tuple[str, int, str, Path | None, bool, Path | None, Path | None],
    as_json: bool,
) -> None:
    from runtime.ask import ask, stream_of
    from runtime.settings import BrokerSettings, SealSettings

    host, port, user, password_file, tls, ca_file, seal_key_file = where
    broker = BrokerSettings(host=host, port=port, user=user, password_file=password_file, tls=tls, ca_file=ca_file)
    ask(broker.address(), stream_of(stream), command, SealSettings(seal_key_file).key())
    emit({"stream": stream, "asked": command.kind}, as_json, lambda r: f"{r['stream']} was asked: {r['asked']}")

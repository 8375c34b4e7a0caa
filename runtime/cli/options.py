"""Command line options that several commands share, each in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")]
BundleOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the bundle; sender and receiver need the same.", show_default="the one that ships"),
]
BundlesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="Folder of the senders' bundle; may be repeated, `default` is the one that ships.",
        show_default="the one that ships",
    ),
]
StampOption = Annotated[
    str,
    typer.Option(
        help="Write time, camera and 'drawn' over the pictures: off, small, bar, or auto (a label where detail was "
        "invented)."
    ),
]
DecoderOption = Annotated[
    str,
    typer.Option(
        metavar="auto|small|large",
        help="Base decoder; auto: the large one if the bundle has it and no steps are taken.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="TOML file with the same settings; options here take precedence.")
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of what must survive a restart: promised frames, keys, passwords.",
        show_default="$STATE_DIRECTORY, or by XDG",
    ),
]
BrokerGiven = dict[str, Any]
"""Dotted settings, such as `broker.host`; None for an option that was not given."""


def _broker(
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            "--broker",
            help="Host name or address of the MQTT broker; several nodes of a cluster: A,B,C, or repeated.",
            show_default="127.0.0.1",
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the broker.", show_default="1883")] = None,
    user: Annotated[str | None, typer.Option(help="User name for the broker.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with the password, readable by you alone.", show_default="$EDGESEM_PASSWORD"),
    ] = None,
    tls: Annotated[bool | None, typer.Option("--tls", help="Connect with TLS.", show_default=False)] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="CA certificate that signed the broker's, for --tls.", show_default="the system's CAs"),
    ] = None,
    cert_file: Annotated[Path | None, typer.Option(help="Client certificate, for --tls.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Private key of the client certificate.")] = None,
    seal_key_file: Annotated[
        Path | None,
        typer.Option(
            help="Key of sealed (encrypted) streams, as `edgesem key` makes it.",
            show_default="$EDGESEM_SEAL_KEY, else not sealed",
        ),
    ] = None,
) -> BrokerGiven:
    given: dict[str, Any] = {
        "host": ",".join(host) if host else None,
        "hosts": () if host else None,
        "port": port,
        "user": user,
        "password_file": password_file,
    }
    given |= {"tls": tls, "ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    return {**{f"broker.{name}": value for name, value in given.items()}, "seal.key_file": seal_key_file}


def broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command for Typer, with the options `--host` to `--seal-key-file` in place of its parameter `broker`.

    @broker_options
    def ask(stream: str, broker: BrokerGiven, json_: JsonOption = False) -> None: ...

    The command gets them as overrides for `edgesem.config.load_config`.
    """
    ours = inspect.signature(_broker, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += ours.values() if parameter.name == "broker" else [parameter]

    def run(**given: Any) -> None:
        broker = _broker(**{name: given.pop(name) for name in ours})
        command(**given, broker=broker)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run

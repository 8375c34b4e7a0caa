"""The flags by which every command finds its broker, in one place.

    @broker_flags
    def ask(stream: str, broker: BrokerGiven, json_: bool = False) -> None: ...

has `--host` to `--seal-key-file` where `broker` stands, and gets them as the overrides of `edgesem.config.load_config`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

BrokerGiven = dict[str, Any]
"""Dotted settings, such as `broker.host`; None where nobody said anything."""


def _flags(
    host: Annotated[str | None, typer.Option(help="The broker.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Its port.", show_default="1883")] = None,
    user: Annotated[str | None, typer.Option(help="Who we are to the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password.", show_default="$EDGESEM_PASSWORD")
    ] = None,
    tls: Annotated[bool | None, typer.Option("--tls", help="Connect by TLS.", show_default=False)] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Who must have signed the broker's certificate.")] = None,
    cert_file: Annotated[Path | None, typer.Option(help="Our own certificate.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    seal_key_file: Annotated[
        Path | None, typer.Option(help="Key of sealed streams.", show_default="$EDGESEM_SEAL_KEY, else not sealed")
    ] = None,
) -> BrokerGiven:
    given = {"host": host, "port": port, "user": user, "password_file": password_file}
    given |= {"tls": tls, "ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
    return {**{f"broker.{name}": value for name, value in given.items()}, "seal.key_file": seal_key_file}


def broker_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The same command for Typer, with a flag for each of the above in place of its parameter `broker`."""
    ours = inspect.signature(_flags, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += ours.values() if parameter.name == "broker" else [parameter]

    def run(**given: Any) -> None:
        broker = _flags(**{name: given.pop(name) for name in ours})
        command(**given, broker=broker)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run

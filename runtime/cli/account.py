"""The commands `edgesem account add|list|remove`: who may log in to `edgesem broker`, and which topics each may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, table
from runtime.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runtime.daemon.accounts import Accounts

_StateDir = Annotated[
    Path | None,
    typer.Option(help="State folder of the broker, as given to it.", show_default="$STATE_DIRECTORY, or by XDG"),
]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name to log in with; of a device, its name in topics.")]


def add(
    name: _Name,
    role: Annotated[str, typer.Option(help="device, receiver, viewer or admin.")] = "device",
    site: Annotated[str, typer.Option(help="Of a device: first part of its streams' names.")] = "home",
    streams: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            metavar="SITE/DEVICE/STREAM",
            help="Streams that it is for, + for any name; may be repeated.",
            show_default="SITE/NAME/+ of a device, else +/+/+",
        ),
    ] = None,
    state_dir: _StateDir = None,
    json_: JsonOption = False,
) -> None:
    """Add an account to the broker of this machine; it has a password of its own and may use its own topics only.

    A device publishes its packets, birth and state, and reads its acknowledgements and commands. A receiver reads
    streams, acknowledges, asks, and publishes pictures for Home Assistant. A viewer reads those pictures. An admin may
    do everything, as the broker's own user `edgesem`. A running broker takes the account up within a second. Needs
    mosquitto: amqtt cannot hold an account to its topics.

    Example: edgesem account add gate
    """
    from runtime.daemon.accounts import Account
    from runtime.mqtt.loopback_broker import choose_kind

    default = (f"{site}/{name}/+",) if role == "device" else ("+/+/+",)
    account = Account(name, role, tuple(streams) if streams else default)
    path = _accounts(state_dir).add(account)
    result = {"name": name, "role": role, "streams": account.streams, "password_file": path, "broker": choose_kind()}

    def render(result: Mapping[str, Any]) -> str:
        lines = [
            f"{name}: role {role}, streams {', '.join(account.streams)}",
            f"copy {path} there, and name it: --user {name} --password-file FILE",
        ]
        if result["broker"] != "mosquitto":
            lines.append("mosquitto is not installed here, and no other broker admits accounts: apt install mosquitto")
        return "\n".join(lines)

    emit(result, json_, render)


def list_accounts(state_dir: _StateDir = None, json_: JsonOption = False) -> None:
    """List the accounts of the broker of this machine.

    Example: edgesem account list
    """
    accounts = _accounts(state_dir)
    rows = [
        {"name": one.name, "role": one.role, "streams": one.streams, "password_file": accounts.password_file(one.name)}
        for one in accounts.all()
    ]
    emit({"accounts": rows}, json_, _render)


def remove(name: _Name, state_dir: _StateDir = None, json_: JsonOption = False) -> None:
    """Remove an account from the broker of this machine; who is connected with it is cut off.

    Example: edgesem account remove gate
    """
    _accounts(state_dir).remove(name)
    emit({"removed": name}, json_, lambda result: f"removed {result['removed']}")


def _accounts(state_dir: Path | None) -> Accounts:
    from runtime.daemon.accounts import Accounts
    from runtime.settings import MonitorSettings

    return Accounts(MonitorSettings(state_dir=state_dir).folder() / "broker")


def _render(result: Mapping[str, Any]) -> RenderableType:
    rows = [(one["name"], one["role"], ", ".join(one["streams"])) for one in result["accounts"]]
    return table(("name", "role", "streams"), rows, f"{len(rows)} accounts", left=3) if rows else "no accounts"

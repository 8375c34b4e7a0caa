"""Command `edgesem device login`: boards get the latest login at their broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devices.cli.deploy import groups_of, tell_end
from devices.cli.options import (
    AtOnceOption,
    GroupOption,
    HealthOption,
    HoldOption,
    IdentityOption,
    JsonOption,
    PortOption,
    PythonOption,
    RootOption,
    SshConfigOption,
    StopAfterOption,
    ssh_access,
)
from edgesem.cli.console import emit


def login(
    inventory: Annotated[Path, typer.Option(help="TOML file of the fleet; each device has its `host` there.")],
    accounts: Annotated[Path, typer.Option(help="Folder that `edgesem fleet accounts` has made.")],
    group: GroupOption = None,
    at_once: AtOnceOption = 8,
    stop_after: StopAfterOption = 1,
    health_s: HealthOption = 90,
    hold_s: HoldOption = 30,
    port: PortOption = None,
    identity: IdentityOption = None,
    ssh_config: SshConfigOption = None,
    python: PythonOption = "python3",
    root: RootOption = "/",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which boards have a login to come.")] = False,
    json_: JsonOption = False,
) -> None:
    """Bring boards the logins that `edgesem fleet accounts` has made; a board whose frames do not arrive goes back.

    Give the broker its new files first. What a board was seen with is noted in the folder, and the next
    `edgesem fleet accounts` drops the login before it.

    Example: edgesem device login --inventory fleet.toml --accounts accounts
    """
    from devices.cli import display
    from devices.deployment.deploy import Board, Progress
    from devices.deployment.logins import Logins
    from devices.deployment.rollout import roll_out

    groups = groups_of(None, inventory, group)
    access, logins = ssh_access(port, identity, ssh_config, python, root), Logins(accounts)
    if dry_run:
        found = [
            {"host": host, "group": one.name, "device": device, "login": logins.of.get(device, "").partition(":")[0]}
            for one in groups
            for host, device in one.devices.items()
        ]
        columns = ("host", "group", "device", "login")
        emit({"hosts": found, "dry_run": True}, json_, lambda _: display.rows(found, columns))
        return
    devices = {host: device for one in groups for host, device in one.devices.items()}
    with display.LiveTable() as live:

        def bring(host: str) -> Progress:
            board = Board(host, access)
            return logins.bring(board, devices[host], health_s=health_s, hold_s=hold_s, tell=live.show)

        ended = roll_out(groups, bring, at_once=at_once, stop_after=stop_after)
    tell_end(ended, json_)

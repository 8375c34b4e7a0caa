"""Commands `edgesem device deploy, rollback, status, logs`: boards that are reached over SSH."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from devices.cli.boards import release_for
from devices.cli.options import BundleOption, CacheOption, JsonOption, WheelsOption
from edgesem.cli.console import emit, log

if TYPE_CHECKING:
    from devices.deployment.deploy import Access
    from devices.deployment.release import Release
    from devices.deployment.rollout import Group

_Hosts = Annotated[
    list[str], typer.Argument(metavar="HOST...", help="user@host, or an alias of your ssh configuration.")
]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of SSH.", show_default="ssh's")]
Identity = Annotated[Path | None, typer.Option(help="Private key for SSH.", show_default="ssh's")]
SshConfig = Annotated[Path | None, typer.Option(help="File for ssh -F.", show_default="ssh's")]
RootOption = Annotated[str, typer.Option(help="Where the board's file system begins; another folder is for trials.")]
PythonOption = Annotated[str, typer.Option(help="The interpreter to use on the board.")]
Health = Annotated[float, typer.Option(min=1, max=3600, help="Seconds in which frames must be acknowledged.")]

StopAfter = Annotated[
    int, typer.Option(min=1, help="With an inventory: begin no other board once so many have failed.")
]
HoldOption = Annotated[
    float, typer.Option(min=0, max=86_400, help="With an inventory: look again whether a board is well after this.")
]


def deploy(
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="HOST...", help="user@host, or an alias of your ssh configuration.")
    ] = None,
    inventory: Annotated[
        Path | None, typer.Option(help="Instead of hosts: TOML file of the fleet; each device has its `host` there.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Group of the inventory, repeatable: one after the other.", show_default="all at once"),
    ] = None,
    stop_after: StopAfter = 1,
    hold_s: HoldOption = 30,
    bundle: BundleOption = None,
    board: Annotated[str, typer.Option(help="Name of the board.", show_default="what the board says it is")] = "",
    config: Annotated[Path | None, typer.Option(help="Sender's TOML, to lie at /etc/edgesem/send.toml.")] = None,
    wheel: WheelsOption = None,
    cache: CacheOption = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="So many boards at the same time.")] = 8,
    health_s: Health = 90,
    port: PortOption = None,
    identity: Identity = None,
    ssh_config: SshConfig = None,
    python: PythonOption = "python3",
    root: RootOption = "/",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only ask the boards what they are and have.")] = False,
    json_: JsonOption = False,
) -> None:
    """Bring boards to this version of edgesem, and back again by themselves unless their frames arrive.

    With an inventory, its groups come one after the other, and the first board that goes back, is not well some time
    later or falls silent ends it. Boards that run the release already are left alone: say it again to go on.

    Example: edgesem device deploy edge@cam-1.local edge@cam-2.local --bundle bundle
    """
    from devices.board import Board, match
    from devices.cli import display
    from devices.deployment import deploy as deploying
    from devices.deployment.rollout import NOT_BEGUN, hold, roll_out
    from devices.shell import Shell

    groups = groups_of(hosts, inventory, group)
    access = ssh_access(port, identity, ssh_config, python, root)
    named = Board.load(board) if board else None
    files = {"send.toml": _read_config(config)} if config else None
    shell = Shell()

    def make_release(facts: dict[str, Any]) -> Release:
        known = named or match(facts.get("model", ""), facts["arch"])
        return release_for(shell, known, facts["python"], facts["libc"], bundle, wheel, cache, facts["arch"])

    release_of = deploying.ReleaseMaker(make_release)
    if dry_run:

        def plan(host: str) -> dict[str, Any]:
            facts = deploying.Board(host, access).ask("facts")
            return {**facts, "release": release_of(facts).version}

        found = []
        for one in groups:
            more = {"group": one.name} if inventory is not None else {}
            found += [{**entry, **more} for entry in _ask(list(one.devices), plan, at_once)]
        _tell(found, ("host", "group", "running", "release", "error"), json_, dry_run=True)
        return
    with display.LiveTable() as live:

        def deploy_to(host: str) -> deploying.Progress:
            to = deploying.Board(host, access)
            rolling = inventory is not None
            ended = deploying.deploy(
                to, release_of, config=files, health_s=health_s, tell=live.show, only_missing=rolling
            )
            if ended.ok and rolling:
                hold(to, ended, hold_s, live.show)
            return ended

        most = stop_after if inventory is not None else len(groups[0].devices) + 1
        ended = roll_out(groups, deploy_to, at_once=at_once, stop_after=most)
    ok, stopped = all(p.ok for p in ended), any(p.step == NOT_BEGUN for p in ended)
    result = {"hosts": [asdict(p) for p in ended], "ok": ok, "stopped": stopped}
    emit(result, json_, lambda _: display.hosts(ended))
    if not ok:
        raise typer.Exit(1)


def rollback(
    hosts: _Hosts,
    to: Annotated[str, typer.Option(help="A release on the board.", show_default="the one before")] = "",
    health_s: Health = 90,
    port: PortOption = None,
    identity: Identity = None,
    ssh_config: SshConfig = None,
    python: PythonOption = "python3",
    root: RootOption = "/",
    json_: JsonOption = False,
) -> None:
    """Go back to the release that boards ran before.

    Example: edgesem device rollback edge@cam-1.local
    """
    from devices.deployment import deploy as deploying

    access = ssh_access(port, identity, ssh_config, python, root)
    with log.status(Text(f"{', '.join(hosts)}: going back")):
        found = _ask(hosts, lambda host: deploying.rollback(deploying.Board(host, access), to, health_s))
    _tell(found, ("host", "running", "error"), json_)


def status(
    hosts: _Hosts,
    port: PortOption = None,
    identity: Identity = None,
    ssh_config: SshConfig = None,
    python: PythonOption = "python3",
    root: RootOption = "/",
    json_: JsonOption = False,
) -> None:
    """Show what boards run, what they could go back to, and how their senders are.

    Example: edgesem device status edge@cam-1.local
    """
    from devices.deployment import deploy as deploying

    access = ssh_access(port, identity, ssh_config, python, root)
    found = _ask(hosts, lambda host: deploying.Board(host, access).ask("status", quiet_s=60))
    for entry in found if not json_ else ():
        entry |= {key: entry.get("sender", {}).get(key) for key in ("frames", "acknowledged")}
        units = entry.get("units", {}).items()
        entry["units"] = {name.removeprefix("edgesem-").removesuffix(".service"): state for name, state in units}
    columns = ("host", "running", "previous", "on_probation", "units", "frames", "acknowledged", "error")
    _tell(found, columns, json_)


def logs(
    hosts: _Hosts,
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="So many of the last lines.")] = 100,
    port: PortOption = None,
    identity: Identity = None,
    ssh_config: SshConfig = None,
    root: RootOption = "/",
    json_: JsonOption = False,
) -> None:
    """Show the last lines that the daemons of boards logged.

    Example: edgesem device logs edge@cam-1.local --lines 200
    """
    from devices.deployment import deploy as deploying

    access = ssh_access(port, identity, ssh_config, "python3", root)
    found = _ask(hosts, lambda host: {"lines": deploying.logs(deploying.Board(host, access), lines)})
    for entry in found if not json_ else ():
        for line in entry.pop("lines", ()):
            typer.echo(line if len(hosts) == 1 else f"{entry['host']}: {line}")
    if json_ or not all(entry["ok"] for entry in found):
        _tell(found, ("host", "error"), json_)


def groups_of(hosts: list[str] | None, inventory: Path | None, names: list[str] | None) -> list[Group]:
    """The boards that are named, by themselves or by groups of an inventory; UsageError for both or neither."""
    from devices.deployment.rollout import Group, read_groups
    from edgesem.errors import UsageError

    if inventory is not None:
        if hosts:
            raise UsageError("hosts and --inventory exclude each other: name one of them")
        return read_groups(inventory, names or [])
    if names:
        raise UsageError("--group needs --inventory, the file that says which devices are in it")
    if not hosts:
        raise UsageError("no board is named: say user@host, or --inventory")
    if len(set(hosts)) != len(hosts):
        raise UsageError("a host is named twice")
    return [Group("", dict.fromkeys(hosts, ""))]


def _ask(hosts: list[str], work: Callable[[str], Mapping[str, Any]], at_once: int = 8) -> list[dict[str, Any]]:
    """What `work` has of each host; one that is not reached, refuses or answers nonsense is an entry with its error."""
    from devices.deployment import deploy as deploying

    def ask(host: str) -> dict[str, Any]:
        try:
            return {**work(host), "host": host, "ok": True}
        except Exception as error:
            return {"host": host, "ok": False, "error": deploying.failure(error, host)}

    return deploying.for_each(hosts, ask, at_once)


def _tell(found: list[dict[str, Any]], columns: Sequence[str], json_: bool, **more: Any) -> None:
    from devices.cli import display

    emit({"hosts": found, **more}, json_, lambda r: display.rows(r["hosts"], columns))
    if not all(entry["ok"] for entry in found):
        raise typer.Exit(1)


def ssh_access(port: int | None, identity: Path | None, ssh_config: Path | None, python: str, root: str) -> Access:
    """How boards are reached; EnvironmentMissing without ssh."""
    import shutil

    from devices.deployment.deploy import Access
    from edgesem.errors import EnvironmentMissing

    if shutil.which("ssh") is None:
        raise EnvironmentMissing("ssh is not installed: apt-get install openssh-client")
    return Access(port=port, identity=identity, config=ssh_config, root=root, python=python)


def _read_config(path: Path) -> bytes:
    from devices.provision.daemon_settings import check_settings
    from edgesem.config import read_toml
    from edgesem.errors import UsageError

    try:
        check_settings("send", read_toml(path))  # what the sender would refuse must not reach a board
    except UsageError as error:
        raise UsageError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return path.read_bytes()

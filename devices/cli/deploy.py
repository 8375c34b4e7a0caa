"""Commands `edgesem device deploy, rollback, status, logs`: boards that are reached over SSH."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from devices.cli.boards import release_for
from devices.cli.options import (
    HOSTS,
    AtOnceOption,
    BundleOption,
    CacheOption,
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
    WheelsOption,
    ssh_access,
)
from edgesem.cli.console import emit, log

if TYPE_CHECKING:
    from devices.deployment.deploy import Progress
    from devices.deployment.release import Release
    from devices.deployment.rollout import Group


def deploy(
    hosts: Annotated[list[str] | None, HOSTS] = None,
    inventory: Annotated[
        Path | None, typer.Option(help="Instead of hosts: TOML file of the fleet; each device has its `host` there.")
    ] = None,
    group: GroupOption = None,
    stop_after: StopAfterOption = 1,
    hold_s: HoldOption = 30,
    bundle: BundleOption = None,
    board: Annotated[str, typer.Option(help="Name of the board.", show_default="what the board says it is")] = "",
    config: Annotated[Path | None, typer.Option(help="Sender's TOML, to lie at /etc/edgesem/send.toml.")] = None,
    wheel: WheelsOption = None,
    cache: CacheOption = None,
    at_once: AtOnceOption = 8,
    health_s: HealthOption = 90,
    port: PortOption = None,
    identity: IdentityOption = None,
    ssh_config: SshConfigOption = None,
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
    from devices.deployment.release import ReleaseMaker, bundle_files
    from devices.deployment.rollout import hold, roll_out
    from devices.shell import Shell

    groups = groups_of(hosts, inventory, group)
    if bundle is not None:
        bundle_files(bundle)  # one that is wrong is told before any board is asked
    access = ssh_access(port, identity, ssh_config, python, root)
    named = Board.load(board) if board else None
    files = {"send.toml": _read_config(config)} if config else None
    shell = Shell()

    def make_release(facts: dict[str, Any]) -> Release:
        known = named or match(facts.get("model", ""), facts["arch"])
        return release_for(shell, known, facts["python"], facts["libc"], bundle, wheel, cache, facts["arch"])

    release_of = ReleaseMaker(make_release)
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
    tell_end(ended, json_)


def rollback(
    hosts: Annotated[list[str], HOSTS],
    to: Annotated[str, typer.Option(help="A release on the board.", show_default="the one before")] = "",
    health_s: HealthOption = 90,
    port: PortOption = None,
    identity: IdentityOption = None,
    ssh_config: SshConfigOption = None,
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
    hosts: Annotated[list[str], HOSTS],
    port: PortOption = None,
    identity: IdentityOption = None,
    ssh_config: SshConfigOption = None,
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
        if entry["ok"] and not entry.get("running"):
            entry["running"] = "nothing is installed"
        entry["units"] = {name.removeprefix("edgesem-").removesuffix(".service"): state for name, state in units}
    columns = ("host", "running", "previous", "on_probation", "units", "frames", "acknowledged", "error")
    _tell(found, columns, json_)


def logs(
    hosts: Annotated[list[str], HOSTS],
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="So many of the last lines.")] = 100,
    port: PortOption = None,
    identity: IdentityOption = None,
    ssh_config: SshConfigOption = None,
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


def tell_end(ended: Sequence[Progress], json_: bool) -> None:
    """Print what became of each board of a rollout; exit code 1 unless all is well."""
    from devices.cli import display
    from devices.deployment.rollout import NOT_BEGUN

    ok, stopped = all(one.ok for one in ended), any(one.step == NOT_BEGUN for one in ended)
    emit({"hosts": [asdict(one) for one in ended], "ok": ok, "stopped": stopped}, json_, lambda _: display.hosts(ended))
    if not ok:
        raise typer.Exit(1)


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


def _read_config(path: Path) -> bytes:
    from devices.provision.daemon_settings import check_settings
    from edgesem.config import read_toml
    from edgesem.errors import UsageError

    try:
        check_settings("send", read_toml(path))  # what the sender would refuse must not reach a board
    except UsageError as error:
        raise UsageError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return path.read_bytes()

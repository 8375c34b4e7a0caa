"""The commands `edgesem device deploy, rollback, status, logs`: boards that are reached over SSH."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devices.cli import Bundle, Cache, Json, Wheels, release_for
from edgesem.console import emit, log

if TYPE_CHECKING:
    from devices.board import Board
    from devices.deploy import Access
    from devices.release import Release

_Hosts = Annotated[
    list[str], typer.Argument(metavar="HOST...", help="user@host, or an alias of your ssh configuration.")
]
_Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of SSH.", show_default="ssh's")]
_Identity = Annotated[Path | None, typer.Option(help="Private key for SSH.", show_default="ssh's")]
_SshConfig = Annotated[Path | None, typer.Option(help="File for ssh -F.", show_default="ssh's")]
_Root = Annotated[str, typer.Option(help="Where the board's file system begins; another folder is for trials.")]
_Python = Annotated[str, typer.Option(help="The interpreter to use on the board.")]
_Health = Annotated[float, typer.Option(min=1, max=3600, help="Seconds in which frames must be acknowledged.")]


def deploy(
    hosts: _Hosts,
    bundle: Bundle = None,
    board: Annotated[str, typer.Option(help="Name of the board.", show_default="what the board says it is")] = "",
    config: Annotated[Path | None, typer.Option(help="Sender's TOML, to lie at /etc/edgesem/send.toml.")] = None,
    wheel: Wheels = None,
    cache: Cache = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="So many boards at the same time.")] = 8,
    health_s: _Health = 90,
    port: _Port = None,
    identity: _Identity = None,
    ssh_config: _SshConfig = None,
    python: _Python = "python3",
    root: _Root = "/",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only ask the boards what they are and have.")] = False,
    json_: Json = False,
) -> None:
    """Bring boards to this version of edgesem, and back again by themselves unless their frames arrive.

    Example: edgesem device deploy edge@cam-1.local edge@cam-2.local --bundle bundle
    """
    from devices import deploy as deploying
    from devices import display
    from devices.shell import Shell

    access = _access(port, identity, ssh_config, python, root)
    files = {"send.toml": _read_config(config)} if config else None
    shell = Shell()

    def make(facts: dict[str, Any]) -> Release:
        known = _board_for(board, facts)
        return release_for(shell, known, facts["python"], facts["libc"], bundle, wheel, cache, facts["arch"])

    maker = deploying.ReleaseMaker(make)
    if dry_run:
        found = deploying.each(hosts, lambda host: deploying.Board(host, access).ask("facts"), at_once)
        plans = [
            {"host": host, **facts, "release": maker(facts).version} for host, facts in zip(hosts, found, strict=True)
        ]
        emit(
            {"hosts": plans, "dry_run": True}, json_, lambda r: display.rows(r["hosts"], ("host", "running", "release"))
        )
        return
    with display.LiveTable() as live:

        def one(host: str) -> deploying.Progress:
            board = deploying.Board(host, access)
            return deploying.deploy(board, maker, config=files, health_s=health_s, tell=live.show)

        ended = deploying.each(hosts, one, at_once)
    emit({"hosts": [asdict(p) for p in ended], "ok": all(p.ok for p in ended)}, json_, lambda _: display.hosts(ended))
    if not all(p.ok for p in ended):
        raise typer.Exit(1)


def rollback(
    host: Annotated[str, typer.Argument(metavar="HOST")],
    to: Annotated[str, typer.Option(help="A release on the board.", show_default="the one before")] = "",
    health_s: _Health = 90,
    port: _Port = None,
    identity: _Identity = None,
    ssh_config: _SshConfig = None,
    python: _Python = "python3",
    root: _Root = "/",
    json_: Json = False,
) -> None:
    """Go back to the release that a board ran before.

    Example: edgesem device rollback edge@cam-1.local
    """
    from devices import deploy as deploying
    from devices import display

    board = deploying.Board(host, _access(port, identity, ssh_config, python, root))
    with log.status(f"{host} goes back"):
        result = deploying.rollback(board, to, health_s)
    emit({"host": host, **result}, json_, display.pairs)


def status(
    hosts: _Hosts,
    port: _Port = None,
    identity: _Identity = None,
    ssh_config: _SshConfig = None,
    python: _Python = "python3",
    root: _Root = "/",
    json_: Json = False,
) -> None:
    """Show what boards run, what they could go back to, and how their senders are.

    Example: edgesem device status edge@cam-1.local
    """
    from devices import deploy as deploying
    from devices import display
    from edgesem.errors import LinkError

    access = _access(port, identity, ssh_config, python, root)

    def one(host: str) -> dict[str, Any]:
        try:
            return {"host": host, "ok": True, **deploying.Board(host, access).ask("status", timeout_s=60)}
        except LinkError as error:
            return {"host": host, "ok": False, "error": str(error)}

    found = deploying.each(hosts, one)
    columns = ("host", "running", "previous", "on_probation", "units", "sender", "error")
    emit({"hosts": found}, json_, lambda r: display.rows(r["hosts"], columns))
    if not all(entry["ok"] for entry in found):
        raise typer.Exit(1)


def logs(
    host: Annotated[str, typer.Argument(metavar="HOST")],
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="So many of the last lines.")] = 100,
    port: _Port = None,
    identity: _Identity = None,
    ssh_config: _SshConfig = None,
    root: _Root = "/",
    json_: Json = False,
) -> None:
    """Show the last lines that a board's daemons logged.

    Example: edgesem device logs edge@cam-1.local --lines 200
    """
    from devices import deploy as deploying

    text = deploying.logs(deploying.Board(host, _access(port, identity, ssh_config, "python3", root)), lines)
    emit({"host": host, "lines": text.splitlines()}, json_, lambda r: text.rstrip("\n"))


def _board_for(name: str, facts: Mapping[str, Any]) -> Board:
    from devices.board import Board, match

    return Board.load(name) if name else match(str(facts.get("model", "")), str(facts["arch"]))


def _access(port: int | None, identity: Path | None, ssh_config: Path | None, python: str, root: str) -> Access:
    from devices.deploy import Access

    return Access(port=port, identity=identity, config=ssh_config, root=root, python=python)


def _read_config(path: Path) -> bytes:
    from devices.toml_text import read_toml

    read_toml(path)  # what is not TOML must not reach a board
    return path.read_bytes()

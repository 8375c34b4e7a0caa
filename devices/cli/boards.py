"""Commands `edgesem device list, show, detect, card, jetson`: known boards, and boards made ready to send."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from devices.cli.options import BundleOption, CacheOption, JsonOption, WheelsOption
from edgesem.cli.console import emit, log
from edgesem.errors import UsageError

if TYPE_CHECKING:
    from devices.board import Board
    from devices.deployment.release import Release
    from devices.provision.image import ImageFacts
    from devices.shell import Shell

_Board = Annotated[str, typer.Option("--board", help="Name of the board; `edgesem device list` shows them.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only the plan is printed.")]


def list_boards(json_: JsonOption = False) -> None:
    """Show all boards that edgesem knows.

    Example: edgesem device list
    """
    from devices.board import Board, names
    from devices.cli import display

    boards = [Board.load(name) for name in names()]
    columns = ("name", "runners", "precision", "power_sensor", "provision")
    found: Any = [_summary(board) for board in boards]
    emit(found, json_, lambda _: display.rows(found, columns))


def show(board: Annotated[str, typer.Argument(metavar="BOARD")], json_: JsonOption = False) -> None:
    """Show all that is known of one board, and how well its systemd units are shut in.

    Example: edgesem device show raspberry-pi-5
    """
    from devices.board import Board
    from devices.cli import display
    from devices.shell import Shell
    from devices.units import exposure, unit_files
    from edgesem.errors import EnvironmentMissing

    known = Board.load(board)
    try:
        scores: dict[str, float] | None = exposure(Shell(), known)
    except EnvironmentMissing as error:
        log.print(Text(f"units not rated: {error}"))
        scores = None
    units = {name: data.decode() for name, data in unit_files(known).items()}
    shown = {**asdict(known), "exposure": scores}
    emit({**shown, "units": units}, json_, lambda _: display.pairs(shown))


def detect(json_: JsonOption = False) -> None:
    """Say which board this machine is, and which of its power sensors are there.

    Example: edgesem device detect
    """
    from devices.board import detect, sensors_found
    from devices.cli import display

    board, model = detect()
    sensors = sensors_found(board)
    # What its file says of the board is not what is on this machine: a driver may be missing, or the chip.
    found = {"power_sensor": board.power.meter if sensors else None, "model": model, "sensors": sensors}
    emit({**_summary(board), **found}, json_, display.pairs)


def card(
    config: Annotated[
        Path | None, typer.Option(help="TOML: hostname, [user], [wifi], [send] or [receive], [files].")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image of the system, *.img or *.img.xz.")] = None,
    board: _Board = "",
    template: Annotated[
        bool, typer.Option("--template", help="Print a TOML file for --config to fill in, and do nothing else.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Image to make; stays if --write is given too.")] = None,
    write: Annotated[str, typer.Option(help="Card to write, such as /dev/sda. All on it is lost.")] = "",
    init: Annotated[str, typer.Option(help="cloud-init or firstrun.", show_default="what the image has")] = "",
    python: Annotated[
        str, typer.Option(help="Python in the image: Debian 12 has 3.11, 13 has 3.13.", show_default="what it has")
    ] = "",
    bundle: BundleOption = None,
    wheel: WheelsOption = None,
    cache: CacheOption = None,
    yes: _Yes = False,
    json_: JsonOption = False,
) -> None:
    """Make a card that boots into a sending board: no screen, no network, no hand needed.

    Prints the plan. With --yes it makes the image, and with --write puts it on the card.

    Example: edgesem device card --board raspberry-pi-5 --config cam.toml --image raspios.img.xz --out cam.img --yes
    """
    import os

    from devices.board import Board
    from devices.cli import display
    from devices.deployment.wheels import GLIBC_OF
    from devices.provision import card as cards
    from devices.provision import image as images
    from devices.provision.setup import Setup
    from devices.provision.template import template as template_for
    from devices.shell import Shell

    if template:
        text = template_for(Board.load(board) if board else None)
        if json_:
            emit({"template": text}, json_, lambda _: "")
        else:
            typer.echo(text, nl=False)
        return
    if config is None or image is None or not board:
        raise UsageError("--board, --image and --config are needed; edgesem device card --template prints a config")
    known = Board.load(board)
    cards.check_board(known)
    if out is None and not write:
        raise UsageError("nowhere to put it: name --out FILE, or --write DEVICE")
    if init not in ("", "cloud-init", "firstrun"):
        raise UsageError(f"--init {init}: it is cloud-init or firstrun")
    writer = cards.installed_writer()
    if out is not None:
        cards.check_target(out, image)
    setup = Setup.read(config, known)
    shell = Shell(dry_run=not yes)
    disk = cards.target_disk(shell, write) if write else None
    images.check_image(image)
    plan: dict[str, Any] = {
        "board": board,
        "hostname": setup.hostname,
        "image": image,
        "image_bytes": image.stat().st_size,
        "files": sorted(setup.etc),
        "wifi": setup.wifi.ssid or None,
        "out": out,
        "disk": asdict(disk) if disk else None,
        "writer": writer if disk else None,
        "written": yes,
    }
    if not yes:
        with log.status("looking into the image"), images.unpacked(image, out) as system:
            facts = images.ImageFacts.read(shell, system)
        plan |= _of_image(facts, python)
        emit(plan, json_, lambda r: display.plan(r, "nothing was written; say --yes to do it"))
        return
    with images.scratch_folder(out) as scratch:
        work = scratch / "card.img"
        with log.status("copying the image"):
            images.copy_image(image, work)
        facts = images.ImageFacts.read(shell, work)
        if python and facts.python and python != facts.python:
            raise UsageError(
                f"--python {python}, but the system in {image.name} has Python {facts.python}: leave --python out"
            )
        plan |= _of_image(facts, python)
        python = python or facts.python
        if not python:
            raise UsageError(f"{image.name} does not tell its Python: say --python (Debian 12 has 3.11, 13 has 3.13)")
        release = release_for(shell, known, python, GLIBC_OF.get(python, GLIBC_OF["3.11"]), bundle, wheel, cache)
        with log.status("laying seed and release on it"):
            boot = images.BootPartition.find(shell, work)
            kind = init or cards.init_kind(boot)
            seed = cards.fill(boot, setup, release, kind)
        if disk is not None:
            with log.status(Text(f"writing {disk.path}")):
                cards.write_card(shell, work, disk, writer)
        if out is not None:
            os.replace(work, out)
    result = {**plan, "init": kind, "seed": seed}
    result |= {"release": release.version, "release_bytes": release.size_bytes}
    first = "" if out is None else f"write {out} to a card, "
    emit(result, json_, lambda r: display.plan(r, f"{first}put the card in the board and switch it on"))


def _of_image(facts: ImageFacts, python: str) -> dict[str, Any]:
    """Entries of a plan that tell what is in the image."""
    return {
        "system": facts.system or "unknown",
        "python": python or facts.python or "unknown: say --python",
        "boot_free_bytes": facts.boot_free_bytes,
    }


def jetson(
    action: Annotated[str, typer.Argument(metavar="prepare", help="prepare: make NVIDIA's root file system ours.")],
    bsp: Annotated[Path, typer.Option(help="Unpacked Jetson_Linux_R*.tbz2 with the sample root file system in it.")],
    config: Annotated[Path, typer.Option(help="TOML as for a card: hostname, [user], [send] ...")],
    board: _Board,
    password_file: Annotated[Path, typer.Option(help="File with the first user's password.")],
    l4t: Annotated[str, typer.Option(help="Release of the BSP.", show_default="what its files say")] = "",
    flash: Annotated[
        bool, typer.Option("--flash", help="Flash the board too, which must be in recovery mode.")
    ] = False,
    any_host: Annotated[bool, typer.Option("--any-host", help="Run on a host that NVIDIA does not name.")] = False,
    bundle: BundleOption = None,
    wheel: WheelsOption = None,
    cache: CacheOption = None,
    yes: _Yes = False,
    json_: JsonOption = False,
) -> None:
    """Lay edgesem into the root file system of a Jetson, and print or run the command that flashes it.

    Prints all commands. With --yes it runs those that prepare, with --flash also the one that writes to the board.

    Example: edgesem device jetson prepare --bsp Linux_for_Tegra --board jetson-orin-nano --config cam.toml
    --password-file password
    """
    from devices.board import Board
    from devices.cli import display
    from devices.provision import jetson as jetsons
    from devices.provision.setup import Setup
    from devices.shell import Shell, spelled
    from edgesem.errors import EnvironmentMissing

    if action != "prepare":
        raise UsageError(f"edgesem device jetson {action}: it can only prepare")
    known, opened = Board.load(board), jetsons.Bsp.open(bsp, l4t)
    warnings = jetsons.check(known, opened)
    for warning in warnings:
        if yes and not any_host:
            raise EnvironmentMissing(f"{warning}: use one of them, or say --any-host if you know that it works")
        log.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    setup = Setup.read(config, known)
    jetsons.check_setup(setup)
    password = jetsons.password_in(password_file)
    shell = Shell(dry_run=not yes)
    release = release_for(shell, known, *opened.python(), bundle, wheel, cache)
    paths = jetsons.prepare(shell, known, opened, setup, release, password, flash)
    commands = [spelled(argv) for argv in shell.record]
    result = {
        "board": board,
        "l4t": opened.l4t,
        "release": release.version,
        "overlay": [path for path in paths if "/blobs/" not in path],
        "commands": commands,
        "folder": opened.folder,
        "flash": spelled(jetsons.flash_command(known, opened)),
        "warnings": warnings,
        "done": yes,
    }
    emit(result, json_, lambda _: display.pairs({"board": board, "l4t": opened.l4t, "release": release.version}))
    if json_:
        return
    for line in ["", *commands]:
        typer.echo(line)  # unwrapped, so that it can be pasted
    if not flash:
        typer.echo("\nthen, with the board in recovery mode on USB:")
        typer.echo(f"cd {shlex.quote(str(opened.folder))} && {result['flash']}")
    if not yes:
        typer.echo("\nnothing was run; say --yes to do it")


def release_for(
    shell: Shell,
    board: Board,
    python: str,
    glibc: str,
    bundle: Path | None,
    wheels: list[Path] | None,
    cache: Path | None,
    arch: str = "",
) -> Release:
    """The release of the edgesem that runs here, for one Python on one kind of board."""
    from devices.deployment.release import Release
    from devices.deployment.wheels import wheelhouse

    cache = cache or Path("~/.cache/edgesem/wheels").expanduser()
    with log.status(Text(f"wheels for Python {python} on {arch or board.arch}")):
        found = wheelhouse(shell, cache, python=python, arch=arch or board.arch, glibc=glibc, extra=wheels or [])
    return Release.make(found, bundle, board)


def _summary(board: Board) -> dict[str, Any]:
    return {
        "name": board.name,
        "title": board.title,
        "arch": board.arch,
        "cpu": board.cpu.name,
        "memory_mb": board.memory_mb,
        "runners": board.run.runners,
        "precision": board.run.precision,
        "threads": board.run.threads,
        "power_sensor": board.power.meter or None,
        "provision": board.provision.method,
        "tried": board.tried,
    }

"""Systemd units of a board, and their exposure as `systemd-analyze security` rates it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from devices.board import Board
from devices.shell import Shell
from edgesem.errors import EnvironmentMissing

UNITS = Path(__file__).parent / "units"


def unit_files(board: Board) -> dict[str, bytes]:
    """Path below /etc/systemd/system -> content: the units, and what the board adds to them."""
    files = {path.name: path.read_bytes() for path in sorted(UNITS.glob("edgesem-*"))}
    files["edgesem-sender.service.d/board.conf"] = _drop_in(board) + _lines(board.camera.service)
    if "tensorrt" in board.run.runners:
        files["edgesem-engine.service.d/board.conf"] = _drop_in(board)
        files["edgesem-receiver.service.d/board.conf"] = _drop_in(board) + b"PrivateDevices=no\n"
    else:
        del files["edgesem-engine.service"]
    return files


def _drop_in(board: Board) -> bytes:
    """Drop-in that lets a unit open the board's camera and GPU."""
    lines = [f"# {board.title}", "[Service]", f"SupplementaryGroups={' '.join(board.camera.groups)}"]
    lines += [f"DeviceAllow={device}" for device in board.camera.devices]
    return _lines(lines)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def exposure(shell: Shell, board: Board) -> dict[str, float]:
    """The score of `systemd-analyze security` for each service of a board: 0 shut in, 10 open."""
    scores: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edgesem-units-") as scratch:
        root = Path(scratch)
        folder = root / "etc/systemd/system"
        for name, data in unit_files(board).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        for name in sorted(path.name for path in folder.glob("*.service")):
            argv = ("systemd-analyze", f"--root={root}", "security", "--offline=yes", "--no-pager", name)
            text = shell.run(*argv, read_only=True, check=False).text
            found = re.findall(r"exposure level for \S+: ([\d.]+)", text)
            if not found:
                raise EnvironmentMissing(f"systemd-analyze gave no score for {name}: systemd 250 or later is needed")
            scores[name] = float(found[0])
    return scores

"""Kinds of boards: one TOML file each in `boards/`. To add a board, add a file."""

from __future__ import annotations

import difflib
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from edgesem.config import load_config, setting
from edgesem.errors import UsageError

BOARDS = Path(__file__).parent / "boards"
_MODEL = "proc/device-tree/model"


@dataclass(frozen=True)
class Cpu:
    """Processor."""

    name: str = ""
    cores: int = setting(1, low=1, high=1024)
    l4t_oldest: str = ""
    """Jetson only: the oldest release of Jetson Linux whose Python can run edgesem."""


@dataclass(frozen=True)
class Run:
    """How the networks run best there."""

    runners: tuple[str, ...] = ("onnxruntime",)
    """In the order in which they are tried."""
    threads: int = setting(1, low=1, high=1024)
    precision: str = setting("int8", one_of=("float32", "float16", "int8"))


@dataclass(frozen=True)
class Camera:
    """Camera connector, and what the sender's unit needs to open it."""

    source: str = "/dev/video0"
    """`source.uri` of the sender's configuration for the board's own camera connector."""
    groups: tuple[str, ...] = ("video",)
    """Groups that may open the devices."""
    devices: tuple[str, ...] = ("char-video4linux rw",)
    """What the units may open, as systemd's DeviceAllow= has it: char-GROUP of /proc/devices, or one node."""
    service: tuple[str, ...] = ()
    """What else the sender's unit needs for this camera: lines of its [Service] section."""


@dataclass(frozen=True)
class Power:
    """The power sensor. Empty meter: there is none, and no energy is ever reported for this board."""

    meter: str = setting("", one_of=("", "ina3221-hwmon", "ina3221-iio", "ina238", "pi5-pmic", "rapl"))
    """What `edgesem profile --meter` calls it."""
    paths: tuple[str, ...] = ()
    """Patterns of its files or folders, or the command that reads it. Of hwmon folders, those of its chip count."""
    total: str = ""
    """The rail that is the whole input; empty: the sum of `rails`."""
    rails: tuple[str, ...] = ()
    scope: str = setting("", one_of=("", "input", "module", "rails", "package"))
    units: str = ""


@dataclass(frozen=True)
class Provision:
    """Way in which a system gets onto the board."""

    method: str = setting("ssh", one_of=("card", "jetson", "ssh"))
    jetson_name: str = ""
    """What NVIDIA's flash scripts call the board."""
    usb_ids: tuple[str, ...] = ()
    """Of the board in recovery mode."""
    storage: str = setting("", one_of=("", "nvme", "sd", "emmc"))
    apply_flags: tuple[str, ...] = ()
    """For NVIDIA's apply_binaries.sh."""


@dataclass(frozen=True)
class Board:
    """One kind of board."""

    title: str = ""
    arch: str = setting("aarch64", one_of=("aarch64", "x86_64"))
    models: tuple[str, ...] = ()
    """Beginnings of what /proc/device-tree/model says there; none: a board without a device tree's name."""
    memory_mb: tuple[int, ...] = ()
    tried: str = "not run on the hardware"
    """What of this file was seen to be true on a real board."""
    cpu: Cpu = field(default_factory=Cpu)
    run: Run = field(default_factory=Run)
    camera: Camera = field(default_factory=Camera)
    power: Power = field(default_factory=Power)
    provision: Provision = field(default_factory=Provision)
    name: str = ""

    @classmethod
    def load(cls, name: str, folder: Path = BOARDS) -> Board:
        """The board `name`; UsageError with the nearest name if there is none."""
        known = names(folder)
        if name not in known:
            near = difflib.get_close_matches(name[:100], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"no board is called {name!r}: {hint}")
        return load_config(folder / f"{name}.toml", cls, {"name": name})


def names(folder: Path = BOARDS) -> list[str]:
    """The names of all boards, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def detect(root: Path = Path("/"), arch: str | None = None) -> tuple[Board, str]:
    """The board that this machine is, and the model that its device tree names (empty without one)."""
    try:
        model = (root / _MODEL).read_bytes()[:256].rstrip(b"\0").decode(errors="replace")
    except OSError:
        model = ""
    return match(model, arch or platform.machine()), model


def match(model: str, arch: str, folder: Path = BOARDS) -> Board:
    """The board whose device tree names `model`; the generic one of the architecture if no file knows it.

    The longest fitting beginning wins, so "Raspberry Pi 4" may stand beside "Raspberry Pi 400".
    """
    boards = [Board.load(name, folder) for name in names(folder)]
    fits = [(len(start), board) for board in boards for start in board.models if model.startswith(start)]
    if fits:
        return max(fits, key=lambda fit: fit[0])[1]
    for board in boards:
        if not board.models and board.arch == arch:
            return board
    raise UsageError(f"no board file fits {model or arch}: add one to {folder}")


def sensors_found(board: Board, root: Path = Path("/")) -> list[str]:
    """Those of the board's sensor paths that are there, so that a missing driver is seen before a measurement."""
    found: list[str] = []
    for pattern in board.power.paths:
        if pattern.startswith("/"):
            places = [path for path in sorted(root.glob(pattern.lstrip("/"))) if _of_chip(path, board.power.meter)]
            found += [f"/{path.relative_to(root)}" for path in places]
        elif any(os.access(Path(part) / pattern.split()[0], os.X_OK) for part in os.get_exec_path()):
            found.append(pattern)
    return found


def _of_chip(path: Path, meter: str) -> bool:
    """Whether a hwmon folder, whose number changes from boot to boot, belongs to the meter's chip."""
    if not path.name.startswith("hwmon"):
        return True
    try:
        return (path / "name").read_text(errors="replace").strip() == meter.removesuffix("-hwmon")
    except OSError:
        return False

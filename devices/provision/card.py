"""Card that boots into a sending board: an image of the system, with seed and release on its boot partition.

image file -> copy -> seed and release onto its FAT partition (mtools, no root) -> card (bmaptool, rpi-imager)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from devices.board import Board
from devices.deployment.release import Release
from devices.provision.image import BootPartition
from devices.provision.seed import cloud_init, firstrun
from devices.provision.setup import Setup
from devices.shell import Shell
from edgesem.errors import EdgesemError, EnvironmentMissing, InputError, UsageError

BOOT = "/boot/firmware"
_WRITERS = ("bmaptool", "rpi-imager")
_SLACK_BYTES = 4 << 20
_CHUNK_BYTES = 4 << 20
_FIRSTRUN = f"systemd.run={BOOT}/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"


@dataclass(frozen=True)
class Disk:
    """A block device as `lsblk` describes it."""

    path: str
    size_bytes: int
    model: str
    kind: str
    """How it is connected: usb, mmc ..."""


def target_disk(shell: Shell, path: str) -> Disk:
    """The disk at `path`; UsageError if anything of it is in use, or if it does not look like a card."""
    argv = ("lsblk", "--json", "--bytes", "--paths", "--output", "PATH,SIZE,TYPE,RM,RO,TRAN,MODEL,MOUNTPOINTS", path)
    done = shell.run(*argv, read_only=True, check=False)
    try:
        (entry,) = json.loads(done.out)["blockdevices"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no block device: {done.reason}; lsblk lists those that are there") from error
    if entry.get("type") != "disk":
        raise UsageError(f"{path} is a {entry.get('type')}, not a whole disk: name the disk, such as /dev/sda")
    used = [place for part in _tree(entry) for place in (part.get("mountpoints") or []) if place]
    if used:
        raise UsageError(f"{path} is in use ({', '.join(used)}): unmount it, if it is the card and not your system")
    held = [f"{part['path']} ({part['type']})" for part in _tree(entry) if part["type"] not in ("disk", "part")]
    if held:
        raise UsageError(f"{path} belongs to {', '.join(held)}, so it is no card: nothing is written to it")
    kind = entry.get("tran") or ("mmc" if "/mmcblk" in entry["path"] else "")
    if not entry.get("rm") and kind not in ("usb", "mmc"):
        raise UsageError(f"{path} ({entry.get('model') or 'disk'}) is neither removable nor on USB: it is no card")
    if entry.get("ro"):
        raise UsageError(f"{path} is write-protected: move the switch on the card's side")
    if not entry.get("size"):
        raise UsageError(f"{path} has no card in it")
    return Disk(entry["path"], int(entry["size"]), (entry.get("model") or "").strip(), kind)


def _tree(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry, *(below for child in entry.get("children", []) for below in _tree(child))]


def init_kind(boot: BootPartition) -> str:
    """How the system in the image is told what to do: cloud-init, or firstrun before there was that."""
    if boot.read("meta-data") is not None or boot.read("user-data") is not None:
        return "cloud-init"
    return "firstrun" if boot.read("cmdline.txt") is not None else "cloud-init"


def command_line(old: bytes, setup: Setup, instance: str | None) -> bytes:
    """The kernel's command line for this card: one line, what was there before, and what is ours.

    An instance id that stands there already would win over the one in meta-data, and cloud-init would do nothing.
    """
    stale = ["ds=nocloud", "systemd.run", "systemd.unit=kernel-command-line.target"]
    stale += ["cfg80211.ieee80211_regdom="] if setup.wifi.country else []
    words = [word for word in old.decode(errors="replace").split() if not word.startswith(tuple(stale))]
    if setup.wifi.country:
        words.append(f"cfg80211.ieee80211_regdom={setup.wifi.country}")
    words += [f"ds=nocloud;i={instance}"] if instance else _FIRSTRUN.split()
    return (" ".join(words) + "\n").encode()


def seed_files(setup: Setup, kind: str, cmdline: bytes | None) -> dict[str, bytes]:
    """Name on the boot partition -> content, for an image of that kind with that command line (None: it has none)."""
    if kind == "firstrun":
        return {"firstrun.sh": firstrun(setup, BOOT), "cmdline.txt": command_line(cmdline or b"", setup, None)}
    files = cloud_init(setup, BOOT)
    if cmdline is not None:
        files["cmdline.txt"] = command_line(cmdline, setup, json.loads(files["meta-data"])["instance-id"])
    return files


def fill(boot: BootPartition, setup: Setup, release: Release, kind: str) -> list[str]:
    """Lay seed and release on the boot partition of an image. Returns the names of the seed's files."""
    free, need = boot.free_bytes(), release.size_bytes + _SLACK_BYTES
    if need > free:
        raise InputError(
            f"the boot partition of {boot.image} has {free >> 20} MB free, the release needs {need >> 20} MB: "
            f"take an image with a larger one"
        )
    with tempfile.TemporaryDirectory(prefix="edgesem-card-") as scratch:
        folder = Path(scratch)
        release.lay_out(folder / "edgesem")
        files = seed_files(setup, kind, boot.read("cmdline.txt"))
        for name, content in files.items():
            (folder / name).write_bytes(content)
        boot.put(folder / "edgesem", *(folder / name for name in files))
    return sorted(files)


def write_card(shell: Shell, image: Path, disk: Disk, writer: str) -> None:
    """Write an image to a card, checked once more to be no disk in use, and read back.

    EnvironmentMissing if the card does not hold what was written.
    """
    if image.stat().st_size > disk.size_bytes:
        size_mb = image.stat().st_size >> 20
        raise UsageError(f"{image.name} has {size_mb} MB, the card {disk.size_bytes >> 20}: take a larger card")
    target_disk(shell, disk.path)
    if writer == "bmaptool":
        bmap = image.with_suffix(".bmap")
        shell.run("bmaptool", "create", "--output", str(bmap), str(image))
        with _left_alone(disk) as written:
            shell.run("bmaptool", "copy", "--bmap", str(bmap), str(image), disk.path)
            _read_back(image, written)
    else:  # reads back by itself
        shell.run("rpi-imager", "--cli", "--disable-eject", str(image), disk.path)


@contextlib.contextmanager
def _left_alone(disk: Disk) -> Iterator[IO[bytes]]:
    """The card, open to be read, and passed over by udev meanwhile: a desktop would mount what is written, and write
    to it, before it is compared. EnvironmentMissing if it cannot be read, to the end of the block.
    """
    try:
        with open(disk.path, "rb", buffering=0) as card:
            fcntl.flock(card, fcntl.LOCK_EX)  # systemd.io/BLOCK_DEVICE_LOCKING
            yield card
    except OSError as error:
        if isinstance(error, EdgesemError):
            raise
        raise EnvironmentMissing(
            f"{disk.path} cannot be read back ({error.strerror}): run it as root, or take another card"
        ) from error


def _read_back(image: Path, written: IO[bytes]) -> None:
    """Compare a card with the image where that is not empty: bmaptool checks what it reads, not what the card has."""
    with image.open("rb") as source:
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the card, not from memory
        size = image.stat().st_size
        end = 0
        while end < size:
            try:
                at = os.lseek(source.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return
                raise
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            while at < end:
                most = min(_CHUNK_BYTES, end - at)
                if os.pread(source.fileno(), most, at) != os.pread(written.fileno(), most, at):
                    raise EnvironmentMissing(
                        f"{written.name} does not hold what was written to it, near {at >> 20} MB: take another card"
                    )
                at += most


def installed_writer() -> str:
    """The writer that is installed, bmaptool first: it skips what is empty."""
    return next((name for name in _WRITERS if shutil.which(name)), _WRITERS[0])


def check_target(path: Path, image: Path) -> None:
    """Raise UsageError if `path` is something that the new image must not replace."""
    if path.suffix != ".img":
        raise UsageError(f"--out {path}: name it *.img")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is no plain file: to write to a card use --write {path}")
    if path.exists() and image.exists() and path.samefile(image):
        raise UsageError(f"--out {path} is the image itself: name another file, the image is needed again")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")


def check_board(board: Board) -> None:
    """Raise UsageError for a board that does not start from a card made here."""
    method = board.provision.method
    if method == "jetson":
        raise UsageError(f"{board.title} does not start from a card: use edgesem device jetson prepare")
    if method != "card":
        raise UsageError(
            f"{board.title} does not start from a card made here: install its system, then edgesem device deploy"
        )

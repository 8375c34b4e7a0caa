"""Card that boots into a sending board: an image of the system, with seed and release on its boot partition.

image file -> copy -> seed and release onto its FAT partition (mtools, no root) -> card (bmaptool, rpi-imager)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from devices.deployment.release import Release
from devices.provision.seed import Setup, cloud_init, firstrun
from devices.shell import Shell
from edgesem.errors import EnvironmentMissing, InputError, UsageError

BOOT = "/boot/firmware"
WRITERS = ("bmaptool", "rpi-imager")
_FAT_TYPES = ("b", "c", "e", "ef", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
_LINUX_TYPES = ("83", "0fc63daf-8483-4772-8e79-3d69d8477de4", "b921b045-1df0-41c3-af44-4c6f280d3fae")
_PYTHONS = {"debian 12": "3.11", "debian 13": "3.13", "ubuntu 22.04": "3.10", "ubuntu 24.04": "3.12"}
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


def copy_image(image: Path, target: Path, progress: Callable[[int], None] = lambda _: None) -> None:
    """A copy of an image, unpacked if its name ends in .xz, .gz or .bz2, with holes where it is empty."""
    part = target.with_name(f".{target.name}.part")
    try:
        with _opened(image) as source, part.open("wb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), os.SEEK_CUR)
                else:
                    file.write(chunk)
                progress(len(chunk))
            file.truncate(file.tell())
        os.replace(part, target)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"{image} is damaged: download it again ({error})") from error
    finally:
        part.unlink(missing_ok=True)


def _opened(image: Path) -> IO[bytes]:
    import bz2
    import gzip
    import lzma

    if not image.is_file():
        raise InputError(f"{image} is no file: name the image of a system, *.img or *.img.xz")
    if image.suffix == ".zip":
        raise UsageError(f"{image}: unpack it first (unzip {image.name})")
    openers: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
    opened: IO[bytes] = openers.get(image.suffix, open)(image, "rb")
    return opened


def partitions(shell: Shell, image: Path, types: tuple[str, ...]) -> list[int]:
    """Where the partitions of some types begin in an image, in bytes."""
    done = shell.run("sfdisk", "--json", str(image), read_only=True, check=False)
    try:
        table = json.loads(done.out)["partitiontable"]
        sector = int(table.get("sectorsize", 512))
        return sorted(int(p["start"]) * sector for p in table["partitions"] if p["type"].lower() in types)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{image} has no partition table: it is no image of a disk ({done.reason})") from error


def system_python(shell: Shell, image: Path) -> str:
    """The Python of the system in an image, such as "3.11"; empty if it cannot be told."""
    for start in partitions(shell, image, _LINUX_TYPES):
        argv = ("debugfs", "-R", "cat /usr/lib/os-release", f"{image}?offset={start}")
        try:
            text = shell.run(*argv, read_only=True, check=False).text
        except EnvironmentMissing:
            return ""
        facts = dict(re.findall(r'^(ID|VERSION_ID)="?([\w.]+)', text, re.MULTILINE))
        if facts:
            return _PYTHONS.get(f"{facts.get('ID')} {facts.get('VERSION_ID')}", "")
    return ""


@dataclass(frozen=True)
class BootPartition:
    """The FAT partition inside an image file, reached without mounting it."""

    shell: Shell
    image: Path
    offset_bytes: int

    @classmethod
    def find(cls, shell: Shell, image: Path) -> BootPartition:
        """The first FAT partition of an image; InputError if there is none."""
        starts = partitions(shell, image, _FAT_TYPES)
        if not starts:
            raise InputError(f"{image} has no FAT partition to put the seed on: it is no image for this kind of board")
        return cls(shell, image, starts[0])

    @property
    def _drive(self) -> tuple[str, str]:
        return "-i", f"{self.image}@@{self.offset_bytes}"

    def free_bytes(self) -> int:
        """Free space on the partition."""
        text = self.shell.run("mdir", *self._drive, "::/", read_only=True, error=InputError).text
        found = re.search(r"([\d ]+) bytes free", text)
        if not found:
            raise InputError(f"{self.image}: the boot partition does not say how much is free")
        return int(found[1].replace(" ", ""))

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is no such file."""
        done = self.shell.run("mtype", *self._drive, f"::/{name}", read_only=True, check=False)
        return None if done.code else done.out

    def put(self, *paths: Path) -> None:
        """Copy files and folders to the top of the partition, over what has the same name there."""
        self.shell.run("mcopy", *self._drive, "-Q", "-s", "-o", *map(str, paths), "::/", error=InputError)


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
    """Write an image to a card, checked once more to be no disk in use."""
    if image.stat().st_size > disk.size_bytes:
        size_mb = image.stat().st_size >> 20
        raise UsageError(f"{image.name} has {size_mb} MB, the card {disk.size_bytes >> 20}: take a larger card")
    target_disk(shell, disk.path)
    if writer == "bmaptool":
        bmap = image.with_suffix(".bmap")
        shell.run("bmaptool", "create", "--output", str(bmap), str(image))
        shell.run("bmaptool", "copy", "--bmap", str(bmap), str(image), disk.path)
    else:
        shell.run("rpi-imager", "--cli", "--disable-eject", str(image), disk.path)


def default_writer() -> str:
    """The writer that is installed, bmaptool first: it skips what is empty and checks what it wrote."""
    return next((name for name in WRITERS if shutil.which(name)), WRITERS[0])


def refuse_target(path: Path) -> None:
    """UsageError if `path` is something that a file must not replace."""
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is no plain file: to write to a card use --write {path}")

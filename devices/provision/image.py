"""Image file of a system: unpacked, and its partitions looked into and filled without mounting them or being root."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from devices.shell import Shell, printable
from edgesem.errors import EnvironmentMissing, InputError, UsageError

LINUX_TYPES = ("83", "0fc63daf-8483-4772-8e79-3d69d8477de4", "b921b045-1df0-41c3-af44-4c6f280d3fae")
_FAT_TYPES = ("b", "c", "e", "ef", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
_PYTHONS = {"debian 12": "3.11", "debian 13": "3.13", "ubuntu 22.04": "3.10", "ubuntu 24.04": "3.12"}
_PACKED = (".xz", ".gz", ".bz2")
_CHUNK_BYTES = 4 << 20


def copy_image(image: Path, target: Path) -> None:
    """A copy of an image, unpacked if its name ends in .xz, .gz or .bz2, with holes where it is empty."""
    from lzma import LZMAError
    from zlib import error as ZlibError

    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        # Keys and passwords will be in it.
        with (
            _opened(image) as source,
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
        ):
            while chunk := source.read(_CHUNK_BYTES):
                if chunk.count(0) == len(chunk):
                    file.seek(len(chunk), os.SEEK_CUR)
                else:
                    file.write(chunk)
            file.truncate(file.tell())
        os.replace(part, target)
    except (OSError, EOFError, ValueError, LZMAError, ZlibError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"{image} is damaged: download it again ({error})") from error
    finally:
        part.unlink(missing_ok=True)


def _opened(image: Path) -> IO[bytes]:
    import bz2
    import gzip
    import lzma

    check_image(image)
    openers: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
    opened: IO[bytes] = openers.get(image.suffix, open)(image, "rb")
    return opened


def check_image(image: Path) -> None:
    """Raise InputError unless there is a file `image`, and UsageError if it must be unpacked first."""
    if not image.is_file():
        raise InputError(f"{image} is no file: name the image of a system, *.img or *.img.xz")
    if image.suffix == ".zip":
        raise UsageError(f"{image}: unpack it first (unzip {image.name})")


@contextlib.contextmanager
def unpacked(image: Path, near: Path | None = None) -> Iterator[Path]:
    """The image as a file to look into while the block runs: itself, or unpacked to a folder beside `near`."""
    check_image(image)
    if image.suffix not in _PACKED:
        yield image
        return
    with scratch_folder(near) as folder:
        copy_image(image, folder / "image.img")
        yield folder / "image.img"


@contextlib.contextmanager
def scratch_folder(near: Path | None) -> Iterator[Path]:
    """A folder, closed to other users, beside the file `near`: an image is often larger than what is free in /tmp."""
    with tempfile.TemporaryDirectory(prefix=".edgesem-card-", dir=near.absolute().parent if near else None) as name:
        yield Path(name)


def partitions(shell: Shell, image: Path, types: tuple[str, ...]) -> list[int]:
    """Where the partitions of some types begin in an image, in bytes."""
    done = shell.run("sfdisk", "--json", str(image), read_only=True, check=False)
    try:
        table = json.loads(done.out)["partitiontable"]
        sector = int(table.get("sectorsize", 512))
        return sorted(int(p["start"]) * sector for p in table["partitions"] if p["type"].lower() in types)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{image} has no partition table: it is no image of a disk ({done.reason})") from error


@dataclass(frozen=True)
class ImageFacts:
    """System in an image; what cannot be told is empty."""

    system: str = ""
    """Such as "debian 12"."""
    python: str = ""
    """Such as "3.11"."""
    boot_free_bytes: int = 0
    """Free space of the boot partition."""

    @classmethod
    def read(cls, shell: Shell, image: Path) -> ImageFacts:
        """Facts of an unpacked image; InputError if it is no image of a disk that can be made a card."""
        free = BootPartition.find(shell, image).free_bytes()
        system = _system(shell, image)
        if system.startswith("raspbian"):
            raise InputError(f"{image.name} holds a 32-bit system ({system}): take Raspberry Pi OS Lite, 64-bit")
        return cls(system, _PYTHONS.get(system, ""), free)


def _system(shell: Shell, image: Path) -> str:
    """Name and version of the system in an image, as its os-release has them; empty if it cannot be told."""
    for start in partitions(shell, image, LINUX_TYPES):
        argv = ("debugfs", "-R", "cat /usr/lib/os-release", f"{image}?offset={start}")
        try:
            text = shell.run(*argv, read_only=True, check=False).text
        except EnvironmentMissing:
            return ""
        facts = dict(re.findall(r'^(ID|VERSION_ID)="?([\w.]+)', text[:65536], re.MULTILINE))
        if facts:
            return printable(f"{facts.get('ID', '')} {facts.get('VERSION_ID', '')}".strip(), 40)
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

"""Jetson: NVIDIA's root file system with edgesem in it, and the command that flashes it.

    check host, BSP, board -> NVIDIA's own scripts -> overlay into rootfs/ -> the exact flash command of that release

Nothing here has run against a real BSP or board: the commands are those of NVIDIA's documentation for R36 and R39.
"""

from __future__ import annotations

import platform
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devices.board import Board
from devices.deployment.release import Release
from devices.deployment.wheels import GLIBC_OF
from devices.provision.seed import first_boot_unit
from devices.provision.setup import ETC, Setup
from devices.shell import Shell
from edgesem.errors import EnvironmentMissing, InputError, UsageError

SEED = "/opt/edgesem/seed"
_HOSTS = ("22.04", "24.04")
_HOSTS_FILE = """\
127.0.0.1\tlocalhost
127.0.1.1\t{}
::1\tip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_PYTHONS = {36: "3.10", 38: "3.12", 39: "3.12"}
"""Major release of Jetson Linux -> Python of its Ubuntu (22.04 and 24.04)."""
_SCRIPTS = ("tools/l4t_flash_prerequisites.sh", "apply_binaries.sh", "tools/l4t_create_default_user.sh")
# That script takes the password as an argument only, which every user of this machine could read in the list of
# processes. So bash reads it from standard input and runs the script in its own process: arguments of a sourced script
# are in no list, nor are they in what we print.
_WITH_PASSWORD = 'IFS= read -r password && . "$0" -p "$password" "$@"'


@dataclass(frozen=True)
class Bsp:
    """An unpacked Jetson_Linux_R*_aarch64.tbz2 with the sample root file system in its rootfs/."""

    folder: Path
    major: int
    minor: str

    @classmethod
    def open(cls, folder: Path, l4t: str = "") -> Bsp:
        """The BSP in `folder`; InputError if that is none. `l4t` names the release where the files do not tell it."""
        folder = folder / "Linux_for_Tegra" if (folder / "Linux_for_Tegra").is_dir() else folder
        if missing := [name for name in _SCRIPTS if not (folder / name).is_file()]:
            raise InputError(f"{folder} is no Jetson BSP, it lacks {', '.join(missing)}: unpack Jetson_Linux_R*.tbz2")
        if not (folder / "rootfs/etc/os-release").exists():
            raise InputError(f"{folder}/rootfs is empty: unpack the sample root file system there, with sudo tar xpf")
        named, told = re.fullmatch(r"(\d+)\.(\d+(?:\.\d+)*)", l4t), _release_of(folder)
        if l4t and not named:
            raise UsageError(f"--l4t {l4t}: write it as 36.4.3")
        if named and told and named[0] != f"{told[1]}.{told[2]}":
            raise UsageError(f"--l4t {l4t}, but {folder}/rootfs says R{told[1]}.{told[2]}: leave --l4t out")
        found = named or told
        if not found:
            raise InputError(
                f"{folder} does not tell its release before apply_binaries.sh ran: say --l4t, such as 36.4.3"
            )
        return cls(folder, int(found[1]), found[2])

    @property
    def l4t(self) -> str:
        """Release of Jetson Linux, such as 36.4.3."""
        return f"{self.major}.{self.minor}"

    def python(self) -> tuple[str, str]:
        """Python and C library of its Ubuntu."""
        return _PYTHONS[self.major], GLIBC_OF[_PYTHONS[self.major]]


def _release_of(folder: Path) -> re.Match[str] | None:
    try:
        text = (folder / "rootfs/etc/nv_tegra_release").read_text(errors="replace")
    except OSError:
        return None
    return re.match(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text)


def check(board: Board, bsp: Bsp, host: Path = Path("/"), machine: str = "") -> list[str]:
    """What speaks for trouble although it does not forbid to go on. Raises UsageError for what cannot work."""
    if board.provision.method != "jetson":
        raise UsageError(f"{board.name} is not set up by NVIDIA's scripts but by: {board.provision.method}")
    if _parts(bsp.l4t) < _parts(board.cpu.l4t_oldest) or bsp.major not in _PYTHONS:
        raise UsageError(
            f"R{bsp.l4t} does not fit {board.title}: it takes R{board.cpu.l4t_oldest} or later, of R"
            f"{', R'.join(map(str, _PYTHONS))}, whose Python can run edgesem"
        )
    machine = machine or platform.machine()
    if machine != "x86_64":
        raise EnvironmentMissing(f"NVIDIA's flash tools run on x86-64 only, this is {machine}: use another host")
    text = (host / "etc/os-release").read_text() if (host / "etc/os-release").exists() else ""
    release = re.search(r'^VERSION_ID="?([\d.]+)', text, re.MULTILINE)
    if "ID=ubuntu" not in text or release is None or release[1] not in _HOSTS:
        return [f"this host is not Ubuntu {' or '.join(_HOSTS)}, the only ones that NVIDIA's tools are made for"]
    return []


def _parts(l4t: str) -> tuple[int, ...]:
    return tuple(int(part) for part in l4t.split("."))


def check_setup(setup: Setup) -> None:
    """UsageError for what stands in the file of a card, but does not get onto a Jetson."""
    if setup.wifi.ssid:
        raise UsageError("[wifi] is not set up on a Jetson: leave it out, and join the network on the board by nmcli")
    if setup.user.password_hash:
        raise UsageError("user.password_hash has no effect on a Jetson: leave it out, --password-file has the password")


def password_in(path: Path) -> str:
    """The first user's password, from a file that holds nothing else."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--password-file {path} cannot be read: put the first user's password in it") from error
    if len(lines) != 1 or not lines[0].strip():
        raise UsageError(f"--password-file {path} must hold one line, the password")
    return lines[0].strip()


def in_recovery(shell: Shell, board: Board) -> bool:
    """Whether a board in recovery mode hangs on USB."""
    found = re.findall(r"ID (0955:[0-9a-f]{4})", shell.run("lsusb", read_only=True).text)
    return any(not board.provision.usb_ids or usb in board.provision.usb_ids for usb in found)


def nvidia_steps(board: Board, bsp: Bsp, setup: Setup) -> list[tuple[str, ...]]:
    """NVIDIA's own scripts, in order, without those that have been at this root file system already.

    The one that makes the first user reads the password from its standard input.
    """
    user = ("-u", setup.user.name, "-n", setup.hostname, "--accept-license")
    steps: list[tuple[str, ...]] = [("sudo", f"./{_SCRIPTS[0]}")]
    if _release_of(bsp.folder) is None:
        steps.append(("sudo", f"./{_SCRIPTS[1]}", *board.provision.apply_flags))
    if _owner(bsp, setup.user.name):
        return steps
    return [*steps, ("sudo", "bash", "-c", _WITH_PASSWORD, f"./{_SCRIPTS[2]}", *user)]


def _owner(bsp: Bsp, user: str) -> str:
    """`uid:gid` of a user of the root file system; empty if there is none yet."""
    try:
        text = (bsp.folder / "rootfs/etc/passwd").read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{re.escape(user)}:[^:]*:(\d+:\d+):", text, re.MULTILINE)
    return found[1] if found else ""


def flash_command(board: Board, bsp: Bsp) -> tuple[str, ...]:
    """The command that writes the root file system to the board's own storage, as that release wants it."""
    tool, name = "./tools/kernel_flash/l4t_initrd_flash.sh", board.provision.jetson_name
    if bsp.major >= 38:
        return ("sudo", "./l4t_initrd_flash.sh", "--erase-all", name, "internal")
    if board.provision.storage == "emmc":
        return ("sudo", "./flash.sh", name, "internal")
    layout = ("-c", "tools/kernel_flash/flash_l4t_t234_nvme.xml", "-p", "-c bootloader/generic/cfg/flash_t234_qspi.xml")
    where = ("--external-device", "nvme0n1p1", *layout)
    return ("sudo", tool, *where, "--showlogs", "--network", "usb0", name, "internal")


def overlay(folder: Path, setup: Setup, release: Release) -> list[str]:
    """Lay what the board needs of edgesem below `folder` as if it were /. Returns the paths, sorted.

    At its first boot the board makes the virtual environment with the system's TensorRT, and its engine, by itself.
    """
    release.lay_out(folder / SEED.lstrip("/"))
    etc = folder / ETC.strip("/")
    etc.mkdir(parents=True)
    for name, content in setup.etc.items():
        (etc / name).write_bytes(content)
        (etc / name).chmod(0o600)
    # NVIDIA's script names the first board that is made of a BSP; each other one must not be called like that.
    (folder / "etc/hostname").write_text(f"{setup.hostname}\n")
    (folder / "etc/hosts").write_text(_HOSTS_FILE.format(setup.hostname))
    (folder / "etc/timezone").write_text(f"{setup.timezone}\n")
    (folder / "etc/localtime").symlink_to(f"/usr/share/zoneinfo/{setup.timezone}")
    units = folder / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "edgesem-firstboot.service").write_bytes(first_boot_unit(SEED))
    (units / "multi-user.target.wants/edgesem-firstboot.service").symlink_to("../edgesem-firstboot.service")
    if setup.user.ssh_keys:
        home = folder / "home" / setup.user.name / ".ssh"
        home.mkdir(parents=True, mode=0o700)
        (home / "authorized_keys").write_text("\n".join(setup.user.ssh_keys) + "\n")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def lay_in(shell: Shell, bsp: Bsp, setup: Setup, release: Release) -> list[str]:
    """Copy the overlay into the BSP's root file system, which belongs to root. Returns its paths."""
    with tempfile.TemporaryDirectory(prefix="edgesem-overlay-") as scratch:
        paths = overlay(Path(scratch), setup, release)
        rootfs = str(bsp.folder / "rootfs")
        # What an earlier run has laid there for another board must not come along.
        shell.run("sudo", "rm", "-rf", f"{rootfs}{ETC.rstrip('/')}", f"{rootfs}{SEED}")
        shell.run("sudo", "cp", "-r", "--no-preserve=ownership", f"{scratch}/.", rootfs)
        # cp obeys the umask of who runs it, but the services run as a user of their own, and all users read these.
        shell.run("sudo", "chmod", "0755", f"{rootfs}{SEED.rpartition('/')[0]}")
        shell.run("sudo", "chmod", "0644", *(f"{rootfs}/etc/{name}" for name in ("hostname", "hosts", "timezone")))
        if setup.user.ssh_keys:  # 1000 is the first user that NVIDIA's script makes
            owner = _owner(bsp, setup.user.name) or "1000:1000"
            shell.run("sudo", "chown", "-R", owner, f"{rootfs}/home/{setup.user.name}/.ssh")
    return paths


def prepare(
    shell: Shell, board: Board, bsp: Bsp, setup: Setup, release: Release, password: str, flash: bool
) -> list[str]:
    """Run NVIDIA's scripts, lay the overlay, and flash if asked to. Returns the overlay's paths."""
    if flash and not shell.dry_run and not in_recovery(shell, board):
        raise EnvironmentMissing(
            f"no {board.title} in recovery mode on USB: hold its recovery button (or bridge FC REC and GND) while you "
            f"switch it on; lsusb must show 0955:..."
        )
    for argv in nvidia_steps(board, bsp, setup):
        _in_folder(shell, bsp, argv, f"{password}\n".encode() if _WITH_PASSWORD in argv else None)
    paths = lay_in(shell, bsp, setup, release)
    if flash:
        _in_folder(shell, bsp, flash_command(board, bsp))
    return paths


def _in_folder(shell: Shell, bsp: Bsp, argv: tuple[str, ...], stdin: bytes | None = None) -> None:
    shell.run("env", f"--chdir={bsp.folder}", *argv, stdin=stdin)

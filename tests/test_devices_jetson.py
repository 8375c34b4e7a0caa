"""Jetsons: the commands are checked against NVIDIA's documentation, on a folder that looks like a BSP. None was run."""

import json
from pathlib import Path

import pytest
from board_stand import pip_wheel, wheel

from devices.board import Board
from devices.jetson import Bsp, check, flash_command, in_recovery, nvidia_steps, overlay, prepare
from devices.release import Release
from devices.seed import Setup, User
from devices.shell import Done, Shell
from edgesem.errors import EnvironmentMissing, InputError, UsageError

ORIN, THOR, NANO = (Board.load(f"jetson-{name}") for name in ("orin-nano", "agx-thor", "nano"))
SETUP = Setup(hostname="cam-1", user=User("edge", ("ssh-ed25519 AAAA",)), etc={"send.toml": b"[stream]\n"})


def bsp(folder: Path, release: str | None = "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic") -> Path:
    base = folder / "Linux_for_Tegra"
    for name in ("tools/l4t_flash_prerequisites.sh", "apply_binaries.sh", "tools/l4t_create_default_user.sh"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).touch()
    (base / "rootfs/etc").mkdir(parents=True)
    (base / "rootfs/etc/os-release").touch()
    if release:
        (base / "rootfs/etc/nv_tegra_release").write_text(release + "\n")
    return folder


def host(folder: Path, text: str = 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="22.04"\n') -> Path:
    (folder / "host/etc").mkdir(parents=True)
    (folder / "host/etc/os-release").write_text(text)
    return folder / "host"


def test_the_release_is_read_from_the_root_file_system(tmp_path):
    opened = Bsp.open(bsp(tmp_path))
    assert (opened.l4t, opened.python()) == ("36.4.3", ("3.10", "2.35"))


def test_before_nvidias_script_ran_the_release_must_be_named(tmp_path):
    bsp(tmp_path, release=None)
    with pytest.raises(InputError, match="--l4t"):
        Bsp.open(tmp_path)
    assert Bsp.open(tmp_path, "39.2").python() == ("3.12", "2.39")


def test_a_folder_that_is_no_bsp_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Jetson BSP"):
        Bsp.open(tmp_path)


def test_host_and_release_are_checked(tmp_path):
    opened = Bsp.open(bsp(tmp_path))
    good = host(tmp_path)
    assert check(ORIN, opened, good, "x86_64") == []
    assert "not Ubuntu" in check(ORIN, opened, tmp_path, "x86_64")[0]
    with pytest.raises(EnvironmentMissing, match="x86-64 only"):
        check(ORIN, opened, good, "aarch64")
    with pytest.raises(UsageError, match="does not fit"):
        check(THOR, opened, good, "x86_64")  # Thor begins with R38
    with pytest.raises(UsageError, match="not set up by NVIDIA"):
        check(NANO, opened, good, "x86_64")
    with pytest.raises(UsageError, match=r"R35\.6"):
        check(ORIN, Bsp.open(tmp_path, "35.6"), good, "x86_64")  # Ubuntu 20.04: Python 3.8


def test_the_flash_command_is_that_of_the_release(tmp_path):
    bsp(tmp_path)
    r36, r39 = Bsp.open(tmp_path), Bsp.open(tmp_path, "39.2")
    expected = "sudo ./tools/kernel_flash/l4t_initrd_flash.sh --external-device nvme0n1p1 "
    expected += "-c tools/kernel_flash/flash_l4t_t234_nvme.xml -p|-c bootloader/generic/cfg/flash_t234_qspi.xml|"
    expected += "--showlogs --network usb0 jetson-orin-nano-devkit internal"
    assert flash_command(ORIN, r36) == tuple(
        word for i, part in enumerate(expected.split("|")) for word in ([part] if i == 1 else part.split())
    )
    assert flash_command(ORIN, r39)[1:] == (
        "./l4t_initrd_flash.sh",
        "--erase-all",
        "jetson-orin-nano-devkit",
        "internal",
    )


def test_nvidias_scripts_come_in_their_order_and_thor_gets_its_driver(tmp_path):
    bsp(tmp_path, release=None)
    steps = nvidia_steps(THOR, Bsp.open(tmp_path, "38.2"), SETUP, "secret")
    assert [argv[1] for argv in steps] == [
        "./tools/l4t_flash_prerequisites.sh", "./apply_binaries.sh", "./tools/l4t_create_default_user.sh",
    ]  # fmt: skip
    assert steps[1][2:] == ("--openrm",)
    assert steps[2][2:] == ("-u", "edge", "-p", "secret", "-n", "cam-1", "--accept-license")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Bus 001 Device 004: ID 0955:7523 NVIDIA Corp. APX", True),
        ("Bus 001 Device 004: ID 0955:7023 NVIDIA Corp. APX", False),  # an AGX Orin, not the board that was named
        ("Bus 001 Device 002: ID 8087:0026 Intel Corp.", False),
    ],
)
def test_a_board_in_recovery_mode_is_seen(line, found):
    assert in_recovery(Shell(execute=lambda *_: Done(0, line.encode())), ORIN) is found


def test_nothing_is_flashed_while_no_board_is_in_recovery_mode(tmp_path):
    shell = Shell(execute=lambda *_: Done(0))
    with pytest.raises(EnvironmentMissing, match="recovery"):
        prepare(shell, ORIN, Bsp.open(bsp(tmp_path)), SETUP, None, "secret", flash=True)
    assert shell.record == []


def test_the_overlay_holds_release_configuration_and_first_boot(tmp_path):
    release = Release.make([wheel(tmp_path / "w"), pip_wheel()], None, ORIN)
    assert release.system_packages  # so that the system's TensorRT is seen
    paths = overlay(tmp_path / "rootfs", SETUP, release)
    assert "opt/edgesem/seed/manifest.json" in paths
    assert "etc/systemd/system/multi-user.target.wants/edgesem-firstboot.service" in paths
    assert json.loads((tmp_path / "rootfs/opt/edgesem/seed/manifest.json").read_text())["version"] == release.version
    unit = (tmp_path / "rootfs/etc/systemd/system/edgesem-firstboot.service").read_text()
    assert "ExecStart=/usr/bin/python3 /opt/edgesem/seed/agent.py take /opt/edgesem/seed" in unit
    assert (tmp_path / "rootfs/etc/edgesem/send.toml").stat().st_mode & 0o077 == 0

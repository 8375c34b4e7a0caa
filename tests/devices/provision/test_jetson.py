"""Jetsons: the commands are checked against NVIDIA's documentation, on a folder that looks like a BSP. None was run."""

import ast
import json
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from devices.board import Board
from devices.deployment.release import Release
from devices.provision.jetson import (
    Bsp,
    check,
    check_setup,
    flash_command,
    in_recovery,
    lay_in,
    nvidia_steps,
    overlay,
    prepare,
)
from devices.provision.setup import Setup, User, Wifi
from devices.shell import CommandResult, Shell
from edgesem.cli import main as cli
from edgesem.errors import EnvironmentMissing, InputError, UsageError
from tests.support.board_stand import pip_wheel, wheel
from tests.support.releases import prepared_cache
from tests.support.unit_files import complaints

ORIN, THOR, NANO = (Board.load(f"jetson-{name}") for name in ("orin-nano", "agx-thor", "nano"))
PASSWORD = """it's "mine" $HOME \\ #1"""
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
    with pytest.raises(UsageError, match=r"write it as 36\.4\.3"):
        Bsp.open(tmp_path, "R39.2")


def test_a_release_that_the_bsp_is_not_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"says R36\.4\.3"):
        Bsp.open(bsp(tmp_path), "39.2")


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
        check(ORIN, Bsp(tmp_path, 35, "6"), good, "x86_64")  # Ubuntu 20.04: Python 3.8


def test_the_flash_command_is_that_of_the_release(tmp_path):
    r36, r39 = Bsp.open(bsp(tmp_path)), Bsp(tmp_path, 39, "2")
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
    steps = nvidia_steps(THOR, Bsp.open(tmp_path, "38.2"), SETUP)
    assert [argv[1] for argv in steps] == ["./tools/l4t_flash_prerequisites.sh", "./apply_binaries.sh", "bash"]
    assert steps[1][2:] == ("--openrm",)
    assert steps[2][4:] == ("./tools/l4t_create_default_user.sh", "-u", "edge", "-n", "cam-1", "--accept-license")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Bus 001 Device 004: ID 0955:7523 NVIDIA Corp. APX", True),
        ("Bus 001 Device 004: ID 0955:7023 NVIDIA Corp. APX", False),  # an AGX Orin, not the board that was named
        ("Bus 001 Device 002: ID 8087:0026 Intel Corp.", False),
    ],
)
def test_a_board_in_recovery_mode_is_seen(line, found):
    assert in_recovery(Shell(execute=lambda *_: CommandResult(0, line.encode())), ORIN) is found


def test_nothing_is_flashed_while_no_board_is_in_recovery_mode(tmp_path):
    shell = Shell(execute=lambda *_: CommandResult(0))
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


@pytest.fixture
def closed_umask():
    """The umask of somebody whose new files no other user can read."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_second_board_from_the_same_bsp_gets_its_own_name_and_files(tmp_path, closed_umask):
    """NVIDIA's script, which sets the name, is not run again for a user that is there."""
    shell = Shell(execute=lambda argv, stdin, timeout_s: CommandResult(
        subprocess.run(argv[1:], check=False).returncode if argv[1] in ("cp", "rm", "chmod") else 0))  # fmt: skip
    opened = Bsp.open(bsp(tmp_path / "bsp"))
    release = Release.make([wheel(tmp_path / "w"), pip_wheel()], None, ORIN)
    root = opened.folder / "rootfs"
    for name, etc in (("cam-1", {"receive.toml": b"", "seal.key": b"1"}), ("cam-2", {"send.toml": b""})):
        setup = replace(SETUP, hostname=name, timezone="Europe/Zurich", etc=etc)
        lay_in(shell, opened, setup, release)
        assert (root / "etc/hostname").read_text() == f"{name}\n"
        assert f"127.0.1.1\t{name}\n" in (root / "etc/hosts").read_text()
        assert sorted(os.listdir(root / "etc/edgesem")) == sorted(etc)
    assert os.readlink(root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Zurich"
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("etc/hostname", "etc/hosts", "opt/edgesem")}
    assert modes == {"etc/hostname": 0o644, "etc/hosts": 0o644, "opt/edgesem": 0o755}


def test_a_setting_that_a_jetson_would_not_get_is_refused():
    check_setup(SETUP)
    for changes in ({"wifi": Wifi("harbour", "password", "", "CH")}, {"user": User("edge", (), "$6$x")}):
        with pytest.raises(UsageError, match="Jetson"):
            check_setup(replace(SETUP, **changes))


def every_file(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "blobs" not in path.parts]


def test_all_programs_of_the_overlay_can_run_there(tmp_path):
    """Python as old as JetPack 6 has it, units without a slip, links that lead somewhere, scripts that sh can read."""
    release = Release.make([wheel(tmp_path / "w"), pip_wheel()], None, ORIN)
    root = tmp_path / "rootfs"
    overlay(root, SETUP, release)
    release_files = tmp_path / "release"
    for name, content in release.files.items():
        (release_files / name).parent.mkdir(parents=True, exist_ok=True)
        (release_files / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    checked = []
    for path in [*every_file(root), *every_file(release_files)]:
        text = path.read_bytes()
        if path.suffix == ".py":
            ast.parse(text, feature_version=(3, 10))
        elif path.suffix in (".service", ".timer") and shutil.which("systemd-analyze"):
            assert complaints(path) == []
        elif path.suffix == ".sh" or text.startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash")):
            subprocess.run(["bash" if b"bash" in text[:40] else "sh", "-n", str(path)], check=True)
        else:
            continue
        checked.append(path.name)
    assert {"agent.py", "edgesem-firstboot.service", "edgesem-sender.service", "edgesem-engine.service"} <= set(checked)
    for link in (path for path in root.rglob("*") if path.is_symlink()):
        assert (link.parent / os.readlink(link)).exists()


def test_a_script_that_fails_does_not_take_the_password_into_the_message(tmp_path):
    opened = Bsp.open(bsp(tmp_path))
    shell = Shell(execute=lambda argv, stdin, timeout_s: CommandResult(int("bash" in argv), b"", b"no such rootfs\n"))
    with pytest.raises(EnvironmentMissing) as failed:
        prepare(shell, ORIN, opened, SETUP, None, PASSWORD, flash=False)
    assert "no such rootfs" in str(failed.value)
    assert "mine" not in str(failed.value)
    assert not any("mine" in word for argv in shell.record for word in argv)


def test_nvidias_script_is_not_asked_twice_for_a_user(tmp_path):
    opened = Bsp.open(bsp(tmp_path))
    (opened.folder / "rootfs/etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nedge:x:1001:1001::/home/edge:/bin/sh\n"
    )
    assert [argv[1] for argv in nvidia_steps(ORIN, opened, SETUP)] == ["./tools/l4t_flash_prerequisites.sh"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """`device jetson prepare` on a folder that looks like a BSP, whose scripts write down how they were called."""
    if platform.machine() != "x86_64":
        pytest.skip("NVIDIA's tools run on x86-64 only")
    base = bsp(tmp_path / "bsp", release=None) / "Linux_for_Tegra"
    called = tmp_path / "called"
    for script in ("tools/l4t_flash_prerequisites.sh", "apply_binaries.sh", "tools/l4t_create_default_user.sh"):
        # Also who could see the arguments: what any user reads in the list of processes while the script runs.
        lines = [
            "#!/bin/bash",
            f'echo "$0 $*" >> {called}',
            f"cat /proc/[0-9]*/cmdline 2>/dev/null >> {tmp_path}/ps; true",
        ]
        (base / script).write_text("\n".join(lines) + "\n")
        (base / script).chmod(0o755)
    (tmp_path / "bin").mkdir()
    # What belongs to root in a real root file system belongs to this user here.
    (tmp_path / "bin/sudo").write_text('#!/bin/sh\n[ "$1" = chown ] && exit 0\nexec "$@"\n')
    (tmp_path / "bin/sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    own = wheel(tmp_path / "w")
    cache = prepared_cache(tmp_path / "cache", "aarch64-3.12-2.39", own)
    (tmp_path / "pw").write_text(f"{PASSWORD}\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (tmp_path / "cam.toml").write_text(
        'hostname = "cam-1"\n[user]\nssh_keys = ["key.pub"]\n[send.broker]\nhost = "x"\n'
    )

    def run(*more: str) -> int:
        argv = ["device", "jetson", "prepare", "--bsp", base, "--config", tmp_path / "cam.toml", "--l4t", "39.2"]
        argv += ["--password-file", tmp_path / "pw", "--wheel", own, "--cache", cache, *more]
        return cli.main([str(word) for word in argv])

    return run, base / "rootfs", called


def test_prepare_prints_everything_and_does_nothing_before_it_is_told_to(prepared, capsys):
    run, root, called = prepared
    assert run("--board", "jetson-agx-thor") == 0
    said = capsys.readouterr().out
    assert "./apply_binaries.sh --openrm" in said
    assert "sudo ./l4t_initrd_flash.sh --erase-all jetson-agx-thor-devkit internal" in said
    assert PASSWORD not in said
    assert "it" + "'" not in said  # nor any way in which a shell spells it
    assert not called.exists()
    assert [path.name for path in every_file(root)] == ["os-release"]


def test_prepare_runs_nvidias_scripts_and_lays_the_overlay(prepared, capsys, tmp_path):
    run, root, called = prepared
    assert run("--board", "jetson-orin-nano", "--yes", "--any-host", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [line.split()[0] for line in called.read_text().splitlines()] == [
        "./tools/l4t_flash_prerequisites.sh", "./apply_binaries.sh", "./tools/l4t_create_default_user.sh",
    ]  # fmt: skip
    assert f"-p {PASSWORD} -u edge -n cam-1 --accept-license" in called.read_text()
    assert b"l4t_create_default_user.sh" in (tmp_path / "ps").read_bytes()
    assert PASSWORD.encode() not in (tmp_path / "ps").read_bytes()
    assert PASSWORD not in json.dumps(told)
    assert (root / "etc/systemd/system/multi-user.target.wants/edgesem-firstboot.service").resolve().is_file()
    assert (root / "home/edge/.ssh/authorized_keys").read_text().startswith("ssh-ed25519 ")
    assert json.loads((root / "opt/edgesem/seed/manifest.json").read_text())["version"] == told["release"]
    assert b'uri = "csi:0"' in (root / "etc/edgesem/send.toml").read_bytes()
    assert (told["done"], told["flash"].split()[-2:]) == (True, ["jetson-orin-nano-devkit", "internal"])


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--board", "jetson-orin-nano", "--bsp", "/"), 1, "no Jetson BSP"),
        (("--board", "jetson-orin-nano", "--password-file", "/nowhere"), 1, "cannot be read"),
        (("--board", "jetson-orin-nano", "--yes"), 3, "Ubuntu"),
    ],
)
def test_prepare_refuses_the_wrong_host_bsp_and_board(prepared, capsys, more, code, says, monkeypatch):
    from devices.provision import jetson

    monkeypatch.setattr(jetson, "_HOSTS", ())  # whatever runs this test, NVIDIA does not name it
    run, root, called = prepared
    assert run(*more) == code
    assert says in capsys.readouterr().err
    assert not called.exists()
    assert [path.name for path in every_file(root)] == ["os-release"]

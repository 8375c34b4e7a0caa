"""Board files, what is detected, and the units that come of them."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from devices.board import BOARDS, Board, detect, match, names, sensors_found
from devices.cli.display import rows
from devices.provision.seed import first_boot_unit
from devices.shell import CommandResult, Shell
from devices.units import UNITS, exposure, unit_files
from edgesem.cli import main as cli
from edgesem.errors import EnvironmentMissing, UsageError
from tests.support.unit_files import complaints

WORST_EXPOSURE = 2.0  # score of `systemd-analyze security` that a unit may have; 10 is no protection at all

ALL = names()


def test_the_boards_that_were_promised_are_there():
    promised = {"raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w", "generic-x86", "generic-aarch64"}
    promised |= {f"jetson-{name}" for name in ("nano", "orin-nano", "orin-nx", "agx-orin", "agx-thor")}
    assert set(ALL) == promised


@pytest.mark.parametrize("name", ALL)
def test_every_board_file_says_what_a_sender_needs(name):
    board = Board.load(name)
    assert board.title
    assert "onnxruntime" in board.run.runners  # what always works comes last
    assert 1 <= board.run.threads <= max(board.cpu.cores, 2)
    assert bool(board.power.meter) == bool(board.power.paths) == bool(board.power.scope) == bool(board.power.units)
    if board.provision.method == "jetson":
        assert board.provision.jetson_name
        assert board.cpu.l4t_oldest


@pytest.mark.parametrize(
    ("model", "arch", "name"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "raspberry-pi-5"),
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", "raspberry-pi-4"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", "raspberry-pi-zero-2w"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "aarch64", "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "aarch64", "jetson-agx-orin"),
        ("NVIDIA Jetson Nano Developer Kit", "aarch64", "jetson-nano"),
        ("linux,dummy-virt", "aarch64", "generic-aarch64"),
        ("", "x86_64", "generic-x86"),
    ],
)
def test_a_board_is_known_by_its_device_tree(model, arch, name):
    assert match(model, arch).name == name


def test_detection_reads_the_device_tree_of_this_machine(tmp_path):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    board, model = detect(tmp_path)
    assert (board.name, model) == ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0")


def test_sensors_are_found_where_the_board_file_says(tmp_path):
    folder = tmp_path / "sys/bus/i2c/devices/1-0040/hwmon/hwmon3"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina3221\n")
    other = tmp_path / "sys/bus/i2c/devices/1-0018/hwmon/hwmon1"
    other.mkdir(parents=True)
    (other / "name").write_text("jc42\n")
    assert sensors_found(Board.load("jetson-orin-nano"), tmp_path) == [f"/{folder.relative_to(tmp_path)}"]
    assert sensors_found(Board.load("raspberry-pi-4"), tmp_path) == []


def test_adding_a_board_is_adding_a_file(tmp_path):
    shutil.copytree(BOARDS, tmp_path / "boards")
    text = (BOARDS / "raspberry-pi-5.toml").read_text()
    (tmp_path / "boards/raspberry-pi-6.toml").write_text(text.replace("Raspberry Pi 5", "Raspberry Pi 6"))
    assert match("Raspberry Pi 6 Model B", "aarch64", tmp_path / "boards").name == "raspberry-pi-6"


def test_a_misspelt_board_or_key_names_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean raspberry-pi-5"):
        Board.load("raspbery-pi5")
    (tmp_path / "odd.toml").write_text('[camera]\nsorce = "x"\n')
    with pytest.raises(UsageError, match=r"odd\.toml: unknown key .?camera\.sorce.?: did you mean camera\.source"):
        Board.load("odd", tmp_path)


def test_an_unknown_architecture_is_no_board():
    with pytest.raises(UsageError, match="no board file fits"):
        match("", "riscv64")


@pytest.mark.parametrize("name", ALL)
def test_units_are_correct_and_shut_in(name):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    board = Board.load(name)
    scores = exposure(Shell(), board)
    assert "edgesem-sender.service" in scores
    assert ("edgesem-engine.service" in scores) == ("tensorrt" in board.run.runners)
    assert set(scores) == {name for name in unit_files(board) if name.endswith(".service")}
    assert {name: score for name, score in scores.items() if score > WORST_EXPOSURE} == {}


def test_units_have_no_unknown_key(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    folder = tmp_path / "etc/systemd/system"
    for name, data in unit_files(Board.load("jetson-orin-nano")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "edgesem-firstboot.service").write_bytes(first_boot_unit("/boot/firmware/edgesem"))
    text = (folder / "edgesem-sender.service").read_text()
    units = sorted(folder.glob("edgesem-*.service"))
    assert complaints(*units) == []
    (folder / "edgesem-sender.service").write_text(text.replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in complaints(*units)[0]  # the check sees a slip


def test_the_engine_unit_is_only_where_tensorrt_is():
    assert "edgesem-engine.service" not in unit_files(Board.load("raspberry-pi-5"))
    drop_in = unit_files(Board.load("jetson-orin-nano"))["edgesem-engine.service.d/board.conf"].decode()
    assert "DeviceAllow=/dev/nvmap rw" in drop_in


@pytest.mark.parametrize("name", ALL)
def test_devices_are_named_as_systemd_can_take_them(name):
    """A group of /proc/devices, or one node: of a folder such as /dev/dma_heap systemd only says that it is none."""
    for device in Board.load(name).camera.devices:
        assert re.fullmatch(r"(char-[\w*.-]+|/dev/(nvmap|vcsm-cma)) rw", device)


def test_only_a_new_engine_has_the_daemons_restarted(tmp_path):
    unit = (UNITS / "edgesem-engine.service").read_text()
    assert (
        "After=edgesem-engine" not in (UNITS / "edgesem-sender.service").read_text()
    )  # minutes, in which none is sent
    cache, calls = tmp_path / "cache", tmp_path / "calls"
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    (tmp_path / "systemctl").chmod(0o755)
    (cache / "edgesem/edgesem/engines").mkdir(parents=True)
    (cache / "edgesem/engine-began").touch()
    script = re.search(r"^ExecStartPost=\+/bin/sh -c '(.*)'$", unit, re.MULTILINE)[1].replace("%C", str(cache))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for age_s, restarts in ((-60, False), (60, True)):
        began_s = (cache / "edgesem/engine-began").stat().st_mtime
        os.utime(cache / "edgesem/edgesem/engines", (began_s + age_s, began_s + age_s))
        subprocess.run(["sh", "-c", script], env=environment, check=True)
        assert calls.exists() == restarts
    assert calls.read_text() == "try-restart edgesem-sender.service edgesem-receiver.service\n"


def test_a_jetson_s_sender_can_reach_the_camera_s_daemon_and_nothing_else_is_opened_for_it():
    jetson, pi = (unit_files(Board.load(name)) for name in ("jetson-orin-nano", "raspberry-pi-5"))
    assert b"PrivateTmp=no" in jetson["edgesem-sender.service.d/board.conf"]
    assert b"PrivateTmp=no" not in jetson["edgesem-engine.service.d/board.conf"]
    assert b"PrivateTmp=no" not in pi["edgesem-sender.service.d/board.conf"]


def test_the_commands_show_boards(capsys):
    assert cli.main(["device", "list", "--json"]) == 0
    assert [board["name"] for board in json.loads(capsys.readouterr().out)] == ALL
    assert cli.main(["device", "show", "jetson-agx-orin", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["power"]["scope"] == "module"  # no input rail: the carrier is not in it
    assert "edgesem-sender.service" in shown["units"]
    assert cli.main(["device", "detect", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] in ALL
    assert (found["power_sensor"] is None) == (not found["sensors"])  # what its file names may not be on this machine


def test_a_dry_run_prints_and_does_nothing(tmp_path):
    shell = Shell(dry_run=True)
    shell.run("touch", str(tmp_path / "x"))
    assert shell.run("echo", "seen", read_only=True).text == "seen\n"  # what only looks is run all the same
    assert shell.record == [("touch", str(tmp_path / "x"))]
    assert not (tmp_path / "x").exists()


def test_a_failing_command_says_what_it_was_and_why():
    shell = Shell(execute=lambda argv, stdin, timeout_s: CommandResult(4, b"", b"disk on fire\n"))
    with pytest.raises(EnvironmentMissing, match=r"bmaptool failed \(4\): disk on fire; .*: bmaptool copy"):
        shell.run("bmaptool", "copy")
    with pytest.raises(EnvironmentMissing, match="no-such-program-here is not installed"):
        Shell().run("no-such-program-here")


def talk_to(program: str, quiet_s: float) -> tuple[CommandResult, list[bytes]]:
    heard: list[bytes] = []
    argv = (sys.executable, "-u", "-c", program)
    return Shell().talk(*argv, say=lambda _: None, hear=lambda line, _: heard.append(line), quiet_s=quiet_s), heard


def test_a_board_that_goes_on_saying_something_is_waited_for():
    done, heard = talk_to("import time\nfor _ in range(6): print('working', flush=True); time.sleep(0.5)", 2.0)
    assert (done.code, len(heard)) == (0, 6)


def test_a_board_of_which_nothing_is_heard_is_given_up_with_the_reason():
    done, heard = talk_to("import time\nprint('venv', flush=True)\ntime.sleep(600)", 2.0)
    assert heard == [b"venv\n"]
    assert done.code
    assert "nothing was heard for 2 s" in done.reason


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_of_boards_shows_all_of_them_on_a_narrow_terminal_too(width):
    entries = [
        {"host": "edge@camera-at-the-gate.local", "running": "0.2.0-0123456789", "previous": "0.1.0-9876543210",
         "units": {"sender": "active", "settle": "inactive"}, "frames": 1234},
        {"host": "edge@cam-2.local", "error": "no route to host"},
    ]  # fmt: skip
    console = Console(width=width, file=io.StringIO())
    console.print(rows(entries, ("host", "running", "previous", "on_probation", "units", "frames", "error")))
    text = " ".join(console.file.getvalue().split())
    for word in ("edge@camera-at-the-gate.local", "0.2.0-0123456789", "0.1.0-9876543210", "1234", "no route to host"):
        assert word in text
    assert "on_probation" not in text  # nobody is

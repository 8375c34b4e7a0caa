"""A disk that fills up while a release is on probation: going back to the one before writes nothing."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devices.onboard.intake import missing
from devices.onboard.layout import Layout, Refused
from devices.onboard.main import take

SWITCH = """
import os, resource, sys
from devices.onboard.layout import Layout, Refused
from devices.onboard.probation import switch
from devices.onboard.services import Services

def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file can get another byte

def look(*_):
    if end not in ("well", "late", "same"):
        raise Refused("not healthy")

root, end, staged = sys.argv[1], sys.argv[2], {"send.toml": "bmV3", "more.pem": "bW9yZQ=="}
layout = Layout(root)
report = {"cut": lambda word: os._exit(7), "full": lambda word: fill()}.get(end, print)
services = Services(layout)
services.wait_until_healthy = look
version, staged = ("1", {}) if end == "same" else ("2", staged)
confirm = {"well": lambda: True, "same": lambda: True, "late": lambda: fill() or True}.get(end, lambda: False)
switch(layout, services, version, report, health_s=1, staged=staged, confirm=confirm)
"""


def no_space() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.fixture
def layout(tmp_path) -> Layout:
    """A board that runs release 1 and has release 2, with other units."""
    layout = Layout(str(tmp_path))
    for version in "12":
        units = Path(layout.release(version), "units/edgesem-sender.service.d")
        units.mkdir(parents=True)
        (units.parent / "edgesem-sender.service").write_text(f"unit {version}")
        (units / "board.conf").write_text(f"drop-in {version}")
        Path(layout.release(version), "agent.py").write_text(f"agent {version}")
        Path(layout.release(version), "release.json").write_text("{}")
    for name in ("edgesem-sender.service", "edgesem-sender.service.d/board.conf"):
        Path(layout.units, name).parent.mkdir(parents=True, exist_ok=True)
        Path(layout.units, name).write_bytes(Path(layout.release("1"), "units", name).read_bytes())
    os.makedirs(layout.etc)
    Path(layout.etc, "send.toml").write_text("old")
    os.symlink("releases/1", layout.current)
    return layout


def switched(layout: Layout, end: str) -> int:
    return subprocess.run([sys.executable, "-c", SWITCH, layout.root, end], capture_output=True).returncode


def told(layout: Layout) -> tuple:
    """What the board runs: release, configuration, units."""
    etc, units = ({path.name: path.read_text() for path in Path(folder).rglob("*") if path.is_file()}
                  for folder in (layout.etc, layout.units))  # fmt: skip
    return layout.running(), etc, units


OLD = ("1", {"send.toml": "old"}, {"edgesem-sender.service": "unit 1", "board.conf": "drop-in 1"})
NEW = ("2", {"send.toml": "new", "more.pem": "more"}, {"edgesem-sender.service": "unit 2", "board.conf": "drop-in 2"})


def settle(layout: Layout) -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "devices.onboard.main", "settle", "--root", layout.root]
    return subprocess.run(argv, capture_output=True, text=True, preexec_fn=no_space)


def test_a_board_whose_disk_is_full_at_the_next_boot_goes_back(layout):
    assert switched(layout, "cut") == 7
    assert os.path.exists(layout.pending)
    run = settle(layout)
    assert (run.returncode, json.loads(run.stdout)) == (0, {"left": "2"}), run.stdout
    assert told(layout) == OLD
    assert not os.path.exists(layout.pending)
    assert settle(layout).stdout == '{"left": null}\n'


def test_going_back_on_a_full_disk_that_is_cut_too_goes_on_there(layout):
    assert switched(layout, "cut") == 7
    os.replace(os.path.join(layout.etc, ".send.toml.before"), os.path.join(layout.etc, "send.toml"))
    assert settle(layout).returncode == 0
    assert told(layout) == OLD


@pytest.mark.parametrize("end", ["full", "late"])
def test_a_disk_that_fills_up_in_the_switch_leads_back(layout, end):
    assert switched(layout, end) == 1
    assert told(layout) == OLD
    assert not os.path.exists(layout.pending)


def test_a_switch_that_stays_leaves_no_earlier_file_and_can_be_undone_by_an_agent_that_keeps_none(layout):
    note = {"to": "2", "back": "1", "etc": {"send.toml": "b2xk", "more.pem": None}}  # as of before files were kept
    assert switched(layout, "well") == 0
    assert told(layout) == NEW
    with open(layout.pending, "w") as file:
        json.dump(note, file)
    argv = [sys.executable, "-m", "devices.onboard.main", "settle", "--root", layout.root]
    subprocess.run(argv, check=True, capture_output=True)
    assert told(layout) == OLD


def test_a_release_that_is_started_again_leaves_nothing_beside_its_units(layout):
    Path(layout.units, "edgesem-sender.service").write_text("edited by hand")
    assert switched(layout, "same") == 0
    assert told(layout) == OLD


@pytest.fixture
def small_disk(tmp_path):
    """Layout of a board that has 64 MB below opt/edgesem."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("a small file system needs root")
    layout = Layout(str(tmp_path / "root"))
    os.makedirs(layout.base)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", layout.base], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield layout
    subprocess.run(["umount", layout.base], check=True)


def installed(layout: Layout, version: str, files: dict) -> None:
    """A release whose packages are there, made of these wheels."""
    packages = Path(layout.release(version), f"venv/lib/python3.{sys.version_info[1]}/site-packages")
    packages.mkdir(parents=True)
    Path(layout.release(version), "release.json").write_text(json.dumps({"version": version, "files": files}))


def test_an_update_that_links_the_packages_needs_no_room_for_them(small_disk):
    """20 MB of wheels would unpack to 60 MB, where 44 MB are free."""
    others, ours = {"wheels/onnxruntime-1.whl": ["a" * 64, 20 << 20]}, {"wheels/edgesem-1.whl": ["b" * 64, 1 << 20]}
    installed(small_disk, "1", others | ours)
    Path(small_disk.blobs).mkdir()
    Path(small_disk.blobs, "a" * 64).write_bytes(bytes(20 << 20))
    update = {"version": "2", "files": others | {"wheels/edgesem-2.whl": ["c" * 64, 1 << 20]}}
    assert missing(small_disk, update) == ["c" * 64]
    with pytest.raises(Refused, match="delete something"):  # another wheel, so all are unpacked again
        missing(small_disk, {"version": "2", "files": update["files"] | {"wheels/numpy-2.whl": ["d" * 64, 1]}})


def test_what_nothing_needs_is_deleted_before_an_update_is_refused(small_disk):
    installed(small_disk, "1", {"bundle/a": ["a" * 64, 1 << 20]})
    Path(small_disk.blobs).mkdir()
    for digest in "abc":
        Path(small_disk.blobs, digest * 64).write_bytes(bytes(10 << 20))
    update = {"version": "2", "files": {"bundle/b": ["b" * 64, 10 << 20], "bundle/d": ["d" * 64, 10 << 20]}}
    assert missing(small_disk, update) == ["d" * 64]
    assert {name[0] for name in os.listdir(small_disk.blobs)} == {"a", "b"}  # c was of a deployment that was given up


def test_a_release_that_is_there_needs_no_room_and_is_not_deleted(small_disk):
    for version in "12345":
        installed(small_disk, version, {})
        os.utime(Path(small_disk.release(version), "release.json"), (int(version), int(version)))
    Path(small_disk.base, "large").write_bytes(bytes(60 << 20))
    assert missing(small_disk, {"version": "1", "files": {}}) == []
    assert len(small_disk.complete()) == 5


def test_what_a_cut_first_boot_has_left_does_not_take_the_room_of_the_next(tmp_path):
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("a small file system needs root")
    layout, card = Layout(str(tmp_path / "root")), tmp_path / "card"
    os.makedirs(layout.base)
    (card / "blobs").mkdir(parents=True)
    digest = hashlib.sha256(b"abc").hexdigest()
    (card / "blobs" / digest).write_bytes(b"abc")
    (card / "manifest.json").write_text(json.dumps({"version": "1", "files": {"wheels/a.whl": [digest, 3]}}))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", layout.base], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        half = Path(layout.release("1"), "venv")
        half.mkdir(parents=True)
        (half / "large").write_bytes(bytes(24 << 20))
        with pytest.raises(Refused, match="no wheel of pip"):  # there is room; it is this card that lacks something
            take(layout, str(card), lambda word: None)
    finally:
        subprocess.run(["umount", layout.base], check=True)

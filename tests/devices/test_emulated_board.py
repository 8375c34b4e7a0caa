"""From an image and one TOML file to pictures on the host, on an emulated aarch64 board; then a deployment that breaks.

Takes from ten minutes to more than an hour, depending on the host, and needs an image that
`tests/emulation/debian_image.sh DIR` makes: EDGESEM_EMULATION=DIR pytest -m long tests/devices/test_emulated_board.py

The kernel, systemd, cloud-init, sshd and the wheels are real ones for aarch64; the firmware of a Raspberry Pi, its
camera and its speed are not there.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from devices.board import Board
from devices.deployment.access import Access
from devices.deployment.deploy import Board as Remote
from devices.deployment.deploy import deploy
from devices.deployment.release import Release
from devices.deployment.wheels import own_wheel, wheelhouse
from devices.shell import Shell
from edgesem.cli import main as cli
from tests.support.board_stand import until
from tests.support.edgesem_process import free_port

PHOTO = sorted((Path(__file__).parents[2] / "runtime" / "photos").glob("*.jpg"))[0]
FOLDER = os.environ.get("EDGESEM_EMULATION", "")
CPUS = os.environ.get("EDGESEM_EMULATION_CPUS", "2")
PATIENCE_S = float(os.environ.get("EDGESEM_EMULATION_S", "5400"))
TOOLS = ("qemu-system-aarch64", "mosquitto", "mcopy", "sfdisk", "ssh")

CONFIG = """
hostname = "cam-1"

[user]
name = "edge"
ssh_keys = ["{folder}/key.pub"]

[send.source]
uri = "/etc/edgesem"
loop = true

[send.stream]
site = "test"
fps = 0.2
max_bytes = 4000

[send.broker]
host = "10.0.2.2"
port = {port}

[files]
"photo.jpg" = "{folder}/photo.jpg"
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not FOLDER, reason="needs EDGESEM_EMULATION, see tests/emulation/debian_image.sh"),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}"),
]


@contextlib.contextmanager
def running(log: Path, *argv: object):
    with log.open("wb") as file:
        child = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


def changed(wheel: Path, folder: Path, name: str, text: str) -> Path:
    """The wheel with a line more in one of its files; pip does not compare what it unpacks with RECORD."""
    folder.mkdir()
    target = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            data = old.read(item)
            new.writestr(item, data + text.encode() if item.filename == name else data)
    return target


def test_from_an_image_to_pictures_and_back_from_a_broken_release(tmp_path):
    began = time.monotonic()
    seen: dict[str, float] = {}

    def mark(name: str) -> None:
        seen[name] = round(time.monotonic() - began)
        print(f"{seen[name]:6d} s  {name}", file=sys.stderr, flush=True)

    emulation, ssh_port, mqtt_port = Path(FOLDER), free_port(), free_port()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    from PIL import Image

    picture = Image.open(PHOTO).convert("RGB")
    picture.thumbnail((192, 192))
    picture.save(tmp_path / "photo.jpg")
    (tmp_path / "cam.toml").write_text(CONFIG.format(folder=tmp_path, port=mqtt_port))
    card = tmp_path / "card.img"
    args = ["device", "card", "--board", "generic-aarch64", "--config", str(tmp_path / "cam.toml"), "--python", "3.11"]
    args += ["--image", str(emulation / "debian.img"), "--out", str(card), "--cache", str(emulation / "wheels")]
    assert cli.main([*args, "--yes"]) == 0
    mark("card made")

    (tmp_path / "mosquitto.conf").write_text(f"listener {mqtt_port} 127.0.0.1\nallow_anonymous true\n")
    pictures = tmp_path / "pictures"
    serial = tmp_path / "serial.log"
    serial.touch()
    qemu = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", CPUS]
    qemu += ["-m", "1024", "-accel", "tcg,thread=multi", "-nographic", "-nodefaults", "-no-reboot"]
    qemu += ["-serial", f"file:{serial}"]
    qemu += ["-kernel", emulation / "vmlinuz", "-initrd", emulation / "initrd"]
    qemu += ["-append", "console=ttyAMA0 root=/dev/vda2 rw", "-drive", f"file={card},format=raw,if=virtio"]
    qemu += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"]
    qemu += ["-device", "virtio-net-pci,netdev=net,romfile="]
    receive = [sys.executable, "-m", "edgesem", "receive", "--port", mqtt_port, "--out", pictures]

    def count() -> int:
        return len(list(pictures.rglob("*.png")))

    with (
        running(tmp_path / "mosquitto.log", "mosquitto", "-c", tmp_path / "mosquitto.conf"),
        running(tmp_path / "receive.log", *receive) as receiver,
        running(tmp_path / "qemu.log", *qemu) as machine,
    ):
        alive = lambda: machine.poll() is None and receiver.poll() is None  # noqa: E731
        for words in ("Welcome to", "login:", "Cloud-init"):
            until(lambda words=words: not alive() or words.encode() in serial.read_bytes(), PATIENCE_S)
            mark(f"serial line says {words!r}")
        until(lambda: not alive() or count() >= 3, PATIENCE_S)
        assert alive(), "\n".join(path.read_text(errors="replace")[-3000:] for path in tmp_path.glob("*.log"))
        mark("third picture decoded on the host")

        access = Access(port=ssh_port, identity=tmp_path / "key", config=ssh_config(tmp_path))
        board = Remote("edge@127.0.0.1", access)
        first = board.ask("status")
        assert first["units"] == {"edgesem-sender.service": "active"}
        mark("status over SSH")

        known, cache = Board.load("generic-aarch64"), emulation / "wheels"
        (tmp_path / "own").mkdir()
        own = own_wheel(Shell(), tmp_path / "own", "aarch64")

        def release(name: str, file: str, text: str) -> Release:
            wheel = changed(own, tmp_path / name, file, text)
            found = wheelhouse(Shell(), cache, python="3.11", arch="aarch64", glibc="2.36", extra=[wheel])
            return Release.make(found, None, known)

        good = release("good", "edgesem/__main__.py", "\n# a new version\n")
        progress = deploy(board, lambda facts: good, health_s=PATIENCE_S, tell=lambda p: mark(f"new release: {p.step}"))
        assert progress.ok, progress.message
        assert progress.running == good.version != first["running"]

        broken = release("broken", "runtime/cli/send.py", "\nraise RuntimeError('a bug that no test saw')\n")
        progress = deploy(board, lambda facts: broken, health_s=120, tell=lambda p: mark(f"broken release: {p.step}"))
        assert progress.ok is False
        assert "back to" in progress.message
        after, had = board.ask("status"), count()
        assert (after["running"], after["on_probation"]) == (good.version, None)
        until(lambda: count() >= had + 2, PATIENCE_S)
        mark("pictures go on after the broken release")
    print(seen)


def ssh_config(folder: Path) -> Path:
    path = folder / "ssh_config"
    path.write_text(f"Host *\n UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n LogLevel ERROR\n")
    return path

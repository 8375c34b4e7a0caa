"""The example in the help of every command: the command can read it, and it runs as printed where it can here."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from PIL import Image

import edgesem
import runtime
from edgesem.bundle.bundle import DEFAULT
from edgesem.cli import main as cli
from edgesem.cli.app import documentation
from edgesem.files import read_picture
from runtime.mqtt.mosquitto import find_tool
from runtime.receiver.archive import Archive
from tests.support.edgesem_process import EdgesemProcess

PORT = 1883  # that the examples have by default
PHOTOS = Path(runtime.__file__).parent / "photos"
LOADED = {entry.name: entry.load() for entry in entry_points(group=cli.GROUP)}
EXAMPLES = {name: documentation(command)[1] for name, command in LOADED.items()}
QUICK = (
    *("account.add", "account.list", "account.remove", "archive.export", "archive.show"),
    *("decode", "encode", "info", "key", "device.detect", "device.list", "device.show", "search", "bench.uncertainty"),
)
FLEET = ("fleet.accounts", "fleet.plan", "fleet.status")
ASK = tuple(name for name in EXAMPLES if name.startswith("ask."))
UNTIL_STOPPED = {"broker": "listening", "receive": "ready"}
LONG = ("add-background", "add-decoder", "demo", "profile", "bench.fleet", "bench.link")
CANNOT_RUN = {
    "adapt": "trains for 20 minutes",
    "align": "needs a classifier that does not ship",
    "bench.change": "needs a detector that does not ship",
    "bench.rd": "takes tens of minutes",
    "bench.search": "needs a PostgreSQL; run by tests/runtime/bench/fleet/test_search.py",
    "bench.speed": "takes minutes",
    "bench.task": "needs a detector that does not ship",
    "bench.video": "takes minutes, and a clip that does not ship",
    "bench.watch": "needs a classifier that does not ship",
    "catalogue.events": "needs a PostgreSQL; run by tests/runtime/catalogue/test_uploader.py",
    "catalogue.tidy": "needs a PostgreSQL; run by tests/runtime/catalogue/test_uploader.py",
    "device.card": "needs an image of Raspberry Pi OS",
    "device.deploy": "needs two boards",
    "device.jetson": "needs NVIDIA's BSP",
    "device.login": "needs a board",
    "device.logs": "needs a board",
    "device.rollback": "needs a board",
    "device.status": "needs a board",
    "distill": "trains for 20 minutes",
    "engine": "needs TensorRT",
    "export": "needs a trained model",
    "measure": "needs a detector that does not ship",
    "quantize": "takes minutes",
    "send": "needs a camera, and a broker that is called broker.example",
    "train": "trains for an hour",
    "verify": "needs TensorRT",
}


def words(name):
    """The example's arguments, as a shell has them."""
    return shlex.split(re.fullmatch("Example: `edgesem (.*)`", EXAMPLES[name])[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that has what the examples name, and the environment of a user with an empty home."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("photos", "kodak"):
        (folder / name).mkdir()
        for number, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))[:2]):
            with Image.open(photo) as image:
                image.resize((192, 128)).save(folder / name / f"{number}.png")
    shutil.copy(sorted(PHOTOS.glob("*.jpg"))[0], folder / "photo.jpg")
    (folder / "frames").mkdir()
    for number in range(3):
        shutil.copy(folder / "photos" / "0.png", folder / "frames" / f"{number}.png")
    shutil.copytree(DEFAULT, folder / "bundle")
    (folder / "fleet.toml").write_text('[devices."home/gate"]\n')
    with edgesem.load() as codec, Archive(folder / "received") as archive:
        packet = codec.pack(codec.analyze(read_picture(folder / "photos" / "0.png")), budget_bytes=1500)
        archive.add("home/gate/main", packet, time.time())
        (folder / "photo.es").write_bytes(packet.to_bytes())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGESEM_", "XDG_"))}
    root = str(Path(__file__).parents[1])
    return folder, {**kept, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": root}


@pytest.fixture
def run(place):
    """Runs the example of a command, in that folder; returns what it printed."""
    folder, env = place

    def run(name):
        done = subprocess.run(
            [sys.executable, "-m", "edgesem", *words(name)], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{EXAMPLES[name]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def gate(place, tmp_path_factory):
    """A broker where the examples look for it, and a sender home/gate/main."""
    if find_tool("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"something listens on {PORT}, the port of the examples")
    folder, env = place
    logs = tmp_path_factory.mktemp("gate")
    broker = EdgesemProcess("broker", log=logs / "broker.log", env=env)
    broker.wait_for("listening")
    source = ("send", folder / "photos", "--loop", "--device", "gate", "--state-dir", logs / "state")
    sender = EdgesemProcess(*source, "--detail", "1280x960", "--events", log=logs / "send.log", env=env)
    sender.wait_for("state", lambda state: state["detail"])
    yield
    assert sender.end() == 0
    assert broker.end() == 0


def test_every_command_has_an_example_that_is_tested():
    groups = [set(QUICK), set(ASK), set(FLEET), set(UNTIL_STOPPED), set(LONG), set(CANNOT_RUN)]
    assert set().union(*groups) == set(EXAMPLES)
    assert sum(map(len, groups)) == len(EXAMPLES)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_can_read_its_example(name):
    app = typer.Typer(add_completion=False)
    app.command()(LOADED[name])
    args = words(name)[name.count(".") + 1 :]
    typer.main.get_command(app).make_context(name, args)  # raises for what it does not know, or lacks


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_has_no_slips_of_a_template(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main([*name.split("."), "--help"]) == 0
    help_text = capsys.readouterr().out
    for slip in (r"\{\}", "between +and", r"\bNone\b", r"default: *[\])]", r" [,.](?![\w.])", r"\(\)"):
        found = re.search(slip, help_text)
        assert not found, f"{name}: {help_text[max(0, found.start() - 60) : found.end() + 20]!r}"
    assert "pip install 'edgesem[" not in help_text


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_as_printed(name, run, place):
    folder, _ = place
    for made in ("seal.key", "photo.png"):
        (folder / made).unlink(missing_ok=True)
    if name == "account.remove" and not (folder / "state" / "edgesem" / "broker" / "accounts.json").exists():
        run("account.add")
    if name == "search":
        shutil.rmtree(folder / "found", ignore_errors=True)
    run(name)


@pytest.mark.parametrize("name", ASK)
def test_a_sender_can_be_asked_as_printed(name, gate, run):
    run(name)


@pytest.mark.parametrize("name", FLEET)
def test_a_fleet_is_seen_as_printed(name, gate, run):
    run(name)


@pytest.mark.parametrize("name", UNTIL_STOPPED)
def test_it_runs_as_printed_until_it_is_stopped(name, gate, place, tmp_path):
    folder, env = place
    args = words(name)
    if name == "broker":  # another one has the folder
        args += ["--state-dir", tmp_path]
    before = Path.cwd()
    os.chdir(folder)
    try:
        process = EdgesemProcess(*args, log=tmp_path / "log", env=env)
    finally:
        os.chdir(before)
    process.wait_for(UNTIL_STOPPED[name])
    assert process.end(signal.SIGTERM) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_it_runs_as_printed_in_minutes(name, run):
    run(name)


@pytest.mark.parametrize("name", CANNOT_RUN)
def test_what_cannot_run_here_says_why(name):
    pytest.skip(CANNOT_RUN[name])

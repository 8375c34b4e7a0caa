"""Container image, compose file and Home Assistant add-on: what they name is there, and their commands really run."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from edgesem.config import load_config, read_toml
from runtime.daemon.broker_settings import BrokerServiceSettings
from runtime.daemon.receive_settings import ReceiveSettings
from runtime.mqtt.loopback_broker import Broker, find_tool
from tests.support import containerfile
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.publishing import DEADLINE_S, wait_for
from tests.support.real_broker import draw_pictures

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "devices" / "container"
ADDON = FOLDER / "addon"
needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))


def version():
    return read_toml(ROOT / "pyproject.toml")["project"]["version"]


def test_what_the_image_copies_is_there_and_not_ignored():
    stages = containerfile.read(FOLDER / "Containerfile")
    copied = [words.split()[:-1] for stage in stages for step, words in stage.steps if step == "COPY"]
    sources = [name for words in copied if not words[0].startswith("--from") for name in words]
    assert {"pyproject.toml", "edgesem", "runtime", "devices", "export"} <= set(sources)
    for name in sources:
        assert (ROOT / name).exists()
        assert not containerfile.is_ignored(name, ROOT / ".dockerignore")
    for name in ("edgesem/entropy/kernel.c", "runtime/page/index.html", "edgesem/default_bundle/context_00.onnx"):
        assert (ROOT / name).exists()
        assert not containerfile.is_ignored(name, ROOT / ".dockerignore")
    for name in (".git/config", "tests/conftest.py", "edgesem/__pycache__/x.pyc", "edgesem/entropy/libkernel.so"):
        assert containerfile.is_ignored(name, ROOT / ".dockerignore")


def test_compose_shows_nothing_to_the_network_and_mounts_what_is_there():
    told = compose()
    assert set(told["services"]) == {"broker", "receiver"}
    for service in told["services"].values():
        assert service["image"] == f"edgesem:{version()}"
        assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).resolve().exists()
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        for port in service["ports"]:
            assert re.fullmatch(r"\$\{EDGESEM_[A-Z]+:-127\.0\.0\.1:\d+\}:\d+", port)
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            assert source in told["volumes"] or (FOLDER / source).exists()
            assert target in (*service["command"], "/var/lib/edgesem", "/run/broker")


@needs_mosquitto
def test_the_compose_files_commands_work_together(tmp_path):
    """As compose starts them, but for containers: names of hosts, folders and ports become those of this machine."""
    assert load_config(FOLDER / "broker.toml", BrokerServiceSettings).listen.host == "0.0.0.0"
    port = free_port()
    here = {
        "/run/broker": str(tmp_path / "broker"),
        "/var/lib/edgesem": str(tmp_path / "received"),
        '"broker"': f'"127.0.0.1:{port}"',
        "0.0.0.0:8480": "127.0.0.1:0",
        '"0.0.0.0"': '"127.0.0.1"',
    }
    configs = {}
    for name in ("broker", "receive"):
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        for there, where in here.items():
            text = text.replace(there, where)
        configs[name] = tmp_path / f"{name}.toml"
        configs[name].write_text(text, "utf-8")
    words = {name: service["command"][:2] for name, service in compose()["services"].items()}
    assert words == {"broker": ["broker", "--config"], "receiver": ["receive", "--config"]}
    state = ("--port", port, "--state-dir", tmp_path / "broker")
    broker = EdgesemProcess("broker", "--config", configs["broker"], *state, log=tmp_path / "broker.log")
    ends = [broker.end]
    try:
        broker.wait_for("listening")
        receive = ("receive", "--config", configs["receive"], "--workers", 1, "--state-dir", tmp_path / "received")
        receiver = EdgesemProcess(*receive, log=tmp_path / "receive.log")
        ends.insert(0, receiver.end)
        receiver.wait_for("ready")
        there = ("--port", port, "--user", "edgesem", "--password-file", tmp_path / "broker" / "broker" / "password")
        pictures = draw_pictures(tmp_path / "pictures", count=3)
        common = ("--device", "gate", "--fps", 5, "--promise-every", 1, "--state-dir", tmp_path / "state")
        sender = EdgesemProcess("send", pictures, *there, *common, log=tmp_path / "send.log")
        assert sender.finish() == 0
        receiver.wait_for("picture")
    finally:
        codes = [end() for end in ends]
    assert codes == [0, 0]
    assert list((tmp_path / "received" / "received").rglob("*.es"))


def supervisor(login):
    """What the Supervisor answers an add-on that asks for the broker."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Bearer t0ken" and self.path == "/services/mqtt"
            body = json.dumps({"result": "ok", "data": login} if known and login else {"result": "error"}).encode()
            self.send_response(200 if known and login else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def start_addon(data, port):
    """Run the add-on's start, with a program in place of `edgesem` that only says how it was called."""
    tool = data / "bin" / "edgesem"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text('#!/bin/sh\necho "$STATE_DIRECTORY $*"\n')
    tool.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "EDGESEM_DATA": str(data),
        "EDGESEM_SUPERVISOR": f"http://127.0.0.1:{port}",
        "SUPERVISOR_TOKEN": "t0ken",
    }
    return subprocess.run(
        [sys.executable, ADDON / "run.py"], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def addon_config():
    return yaml.safe_load((ADDON / "config.yaml").read_text("utf-8"))


@needs_mosquitto
def test_the_add_on_receives_from_home_assistants_broker(tmp_path):
    """The settings that it writes are taken by the real receiver, with the login that the Supervisor gives."""
    options = addon_config()["options"]
    (tmp_path / "options.json").write_text(json.dumps(options | {"streams": ["home/Tür 🚪/+", "a/b/c"]}), "utf-8")
    with Broker(kind="mosquitto") as broker:
        address = broker.address
        login = {
            "host": address.host,
            "port": address.port,
            "ssl": False,
            "protocol": "3.1.1",
            "addon": "core_mosquitto",
        }
        server = supervisor(login | {"username": address.user, "password": address.password})
        try:
            for _ in range(2):  # a second start finds the files of the first
                run = start_addon(tmp_path, server.server_port)
                assert (run.returncode, run.stderr) == (0, "")
        finally:
            server.shutdown()
            server.server_close()
        assert run.stdout == f"{tmp_path} receive --config {tmp_path}/receive.toml\n"
        assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
        told = load_config(tmp_path / "receive.toml", ReceiveSettings)
        assert told.streams == ("home/Tür 🚪/+", "a/b/c")
        assert (told.out.home_assistant, told.out.stamp, told.out.http) == (True, "auto", "0.0.0.0:8480")
        start = ("receive", "--config", tmp_path / "receive.toml", "--http", "0", "--workers", 1)
        receiver = EdgesemProcess(*start, "--state-dir", tmp_path, log=tmp_path / "log")
        receiver.wait_for("ready")
        wait_for(lambda: "connected to" in (tmp_path / "log").read_text())
        assert receiver.end() == 0


def test_the_add_on_says_that_there_is_no_broker(tmp_path):
    (tmp_path / "options.json").write_text(json.dumps(addon_config()["options"]), "utf-8")
    server = supervisor(None)
    try:
        run = start_addon(tmp_path, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
    assert run.returncode == 1
    assert "install the add-on Mosquitto broker" in run.stderr
    assert not (tmp_path / "receive.toml").exists()


ELEMENT = re.compile(r"(str|bool|int|float|url|email|port|password)(\(\d*,\d*\))?\??|list\(.+\)\??")
"""A type of the add-on schema, as developers.home-assistant.io has it."""


def test_the_add_ons_configuration_is_as_home_assistant_documents_it():
    config = addon_config()
    assert {"name", "version", "slug", "description", "arch"} <= set(config)
    assert config["version"] == version()
    assert re.fullmatch(r"[-_.A-Za-z0-9]+", config["slug"])
    assert set(config["arch"]) <= {"aarch64", "amd64"}
    assert config["startup"] in ("initialize", "system", "services", "application", "once")
    assert all(re.fullmatch(r"(mqtt|mysql):(provide|want|need)", one) for one in config["services"])
    assert re.match(r"(https?|tcp)://\[HOST\]:(\[PORT:\d+\]|\d+)", config["watchdog"])
    assert re.match(r"https?://\[HOST\]:\[PORT:\d+\]", config["webui"])
    assert set(config["ports"]) == set(config["ports_description"]) == {"8480/tcp"}
    required = {name for name, kind in config["schema"].items() if not str(kind).endswith("?")}
    assert set(config["options"]) == required
    for kind in config["schema"].values():
        assert ELEMENT.fullmatch(kind[0] if isinstance(kind, list) else kind)
    told = yaml.safe_load((ADDON / "translations" / "en.yaml").read_text("utf-8"))
    assert set(told["configuration"]) == set(config["schema"])
    assert set(told["network"]) == set(config["ports"])
    stages = containerfile.read(ADDON / "Dockerfile")
    assert {words.split()[0] for step, words in stages[0].steps if step == "COPY"} == {"src", "run.py"}


@pytest.mark.long
@pytest.mark.skipif(shutil.which("pipx") is None, reason="pipx is not installed")
def test_pipx_installs_a_wheel_that_holds_no_container(tmp_path):
    context = containerfile.tracked(ROOT, tmp_path / "context")
    make = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(context)]
    subprocess.run(make, check=True)
    [wheel] = tmp_path.glob("edgesem-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "devices/units/edgesem-receiver.service" in names
    assert [name for name in names if "container" in name] == []
    env = {**os.environ, "PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    subprocess.run(["pipx", "install", str(wheel)], env=env, check=True)
    run = subprocess.run([tmp_path / "bin" / "edgesem", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"edgesem {version()} ")


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mmdebstrap") is None, reason="needs root and mmdebstrap")
def test_the_image_builds_and_serves(tmp_path):
    """All steps of the Containerfile, run in roots of the Debian that it names; then broker and receiver in it."""
    base = tmp_path / "base"
    release = containerfile.read(FOLDER / "Containerfile")[0].base.rpartition(":")[2].removesuffix("-slim")
    subprocess.run(["mmdebstrap", "--variant=minbase", "--include=ca-certificates", release, str(base)], check=True)
    shutil.copy("/etc/resolv.conf", base / "etc" / "resolv.conf")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", base / "etc/ssl/certs/ca-certificates.crt")
    context = containerfile.tracked(ROOT, tmp_path / "context")
    env = {name: value for name, value in os.environ.items() if name in ("PIP_CERT", "PIP_INDEX_URL", "HTTPS_PROXY")}
    image = containerfile.build(FOLDER / "Containerfile", context, base, tmp_path, env)
    assert image.user == "edgesem"
    run = subprocess.run(image.argv("edgesem", "info", "default", "--json"), capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["runs_here"]["entropy_coder"]["runtime"] == "compiled"
    port, page = free_port(), free_port()
    here = {
        "broker": {'host = "0.0.0.0"': f'host = "127.0.0.1"\nport = {port}'},
        "receive": {'host = "broker"': f'host = "127.0.0.1:{port}"', "0.0.0.0:8480": f"127.0.0.1:{page}"},
    }
    for name, changes in here.items():
        text = (FOLDER / f"{name}.toml").read_text("utf-8")
        for there, where in changes.items():
            assert there in text
            text = text.replace(there, where)
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    for name in ("broker", "received", "state"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, *image.ids)
    tmp_path.chmod(0o755)

    def start(service, stack):
        told = compose()["services"][service]
        volumes = [(tmp_path / Path(one.split(":")[0]), *one.split(":")[1:]) for one in told["volumes"]]
        argv = image.sealed_argv(*image.entrypoint, *told["command"], "--json", volumes=volumes)
        process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        return process

    with ExitStack() as stack:
        broker = start("broker", stack)
        assert json.loads(broker.stdout.readline())["event"] == "listening"
        receiver = start("receiver", stack)
        assert json.loads(receiver.stdout.readline())["event"] == "ready"
        there = ["--port", str(port), "--user", "edgesem", "--password-file", "/run/broker/broker/password"]
        send = [
            "edgesem",
            "send",
            "/pictures",
            *there,
            *["--device", "gate", "--loop", "--fps", "2", "--promise-every", "1"],
        ]
        volumes = [
            (tmp_path / "state", "/var/lib/edgesem"),
            (tmp_path / "broker", "/run/broker", "ro"),
            (draw_pictures(tmp_path / "pictures", count=3), "/pictures", "ro"),
        ]
        argv = image.sealed_argv(*send, volumes=volumes)
        sender = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.DEVNULL))
        stack.callback(sender.terminate)
        assert wait_for(lambda: _get(f"http://127.0.0.1:{page}/home/gate/main.jpg"))[:2] == b"\xff\xd8"
        assert wait_for(lambda: list((tmp_path / "received" / "received").rglob("*.es")))
        status = Path(f"/proc/{receiver.pid}/status").read_text()
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        assert re.search(rf"^Uid:\t{image.ids[0]}\t", status, re.MULTILINE)
    assert (broker.returncode, receiver.returncode, sender.returncode) == (0, 0, 0)


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.read()
    except OSError:
        return None

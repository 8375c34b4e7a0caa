"""An MQTT broker of our own on this machine: loopback only, one random user, gone when you leave.

`mosquitto` where it is installed, otherwise `amqtt` in a process of its own (`python -m runtime.broker JOB.json`).
Neither lets anyone in without the password, and neither is reachable from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue

from edgesem.errors import EnvironmentMissing
from runtime.job import Child, Job, emit, run_child, stdin_closed, write_private
from runtime.mqtt import Address

_HOST = "127.0.0.1"
_START_S = 15.0
_ATTEMPTS = 3
# Debian puts the broker where only root's PATH looks.
_ALSO_LOOK_IN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/local/opt/mosquitto/sbin")


def find_tool(name: str) -> str | None:
    """The path of an installed program, also from the folders that only root has on PATH."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ALSO_LOOK_IN))


def choose_kind() -> str:
    """`mosquitto` or `amqtt`, whichever can be started here; EnvironmentMissing if none can."""
    if find_tool("mosquitto") and find_tool("mosquitto_passwd"):
        return "mosquitto"
    if find_spec("amqtt"):
        return "amqtt"
    raise EnvironmentMissing("no MQTT broker here: install mosquitto (apt install mosquitto) or pip install amqtt")


class Broker:
    """A running broker: `kind` and `address` (with user and password) while inside the `with`."""

    def __init__(self, *, kind: str | None = None) -> None:
        self.kind = kind or choose_kind()
        self.address: Address
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Broker:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesem-broker-")))
            start = {"mosquitto": self._start_mosquitto, "amqtt": self._start_amqtt}[self.kind]
            user, password = f"edgesem-{secrets.token_hex(4)}", secrets.token_urlsafe(24)
            failure = ""
            for attempt in range(_ATTEMPTS):
                # Another program may take the port between our looking and the broker's binding: hence attempts.
                version = "5" if self.kind == "mosquitto" else "3.1.1"
                self.address = Address(_HOST, _free_port(), user=user, password=password, version=version)
                home = folder / str(attempt)
                home.mkdir(mode=0o700)
                try:
                    start(home, stack)
                    break
                except EnvironmentMissing as error:
                    failure = str(error)
            else:
                raise EnvironmentMissing(f"the broker {self.kind} did not start: {failure}; repair or remove it")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_mosquitto(self, home: Path, stack: contextlib.ExitStack) -> None:
        passwords = home / "passwords"
        write_private(passwords, f"{self.address.user}:{self.address.password}\n")
        tool, server = find_tool("mosquitto_passwd"), find_tool("mosquitto")
        if tool is None or server is None:
            raise EnvironmentMissing("mosquitto or mosquitto_passwd is not installed: apt install mosquitto")
        # -U hashes the file in place: the password never stands on a command line, where every user could read it.
        try:
            subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True, timeout=_START_S)
        except subprocess.SubprocessError as error:
            raise EnvironmentMissing(f"{tool} cannot hash a password ({error})") from error
        os.chmod(passwords, 0o600)
        config = [
            f"listener {self.address.port} {_HOST}",
            "allow_anonymous false",
            f"password_file {passwords}",
            "persistence false",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            config.append("user root")  # it would become `mosquitto`, who may not read our private folder
        write_private(home / "mosquitto.conf", "\n".join(config) + "\n")
        log_path = home / "mosquitto.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [server, "-c", str(home / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(_end, process)
        deadline_s = time.monotonic() + _START_S
        while not _answers(self.address.port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise EnvironmentMissing(log_path.read_text("utf-8", errors="replace").strip()[-500:] or "no log")
            time.sleep(0.02)

    def _start_amqtt(self, home: Path, stack: contextlib.ExitStack) -> None:
        job = {"port": self.address.port, "user": self.address.user, "password": self.address.password}
        events: Queue[tuple[str, Job]] = Queue()
        stack.enter_context(
            Child(name="broker", module="runtime.broker", job={**job, "home": str(home)}, folder=home, events=events)
        )
        try:
            _, event = events.get(timeout=_START_S)
        except Empty:
            raise EnvironmentMissing(f"no answer within {_START_S:.0f} s") from None
        if event["event"] != "ready":
            raise EnvironmentMissing(event["words"])


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((_HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _serve_amqtt(job: Job) -> None:
    from amqtt.broker import Broker as Amqtt
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    passwords = Path(job["home"]) / "passwords"
    write_private(passwords, f"{job['user']}:{PasswordHash((Argon2Hasher(),)).hash(job['password'])}\n")
    # Naming `default` and `plugins` replaces what amqtt would do by itself: 0.0.0.0:1883, and everybody welcome.
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{_HOST}:{job['port']}"}},
        "plugins": {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}},
    }
    broker = Amqtt(config)
    await broker.start()
    emit(event="ready")
    await asyncio.get_running_loop().run_in_executor(None, stdin_closed().wait)
    await broker.shutdown()


def broker(job: Job) -> None:
    """Run amqtt as the job says, until standard input closes."""
    asyncio.run(_serve_amqtt(job))


if __name__ == "__main__":
    raise SystemExit(run_child(broker))

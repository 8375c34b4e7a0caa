"""Loopback broker: an MQTT broker on this machine alone, with one random user, gone when the context is left.

`mosquitto` where it is installed, otherwise `amqtt` in a process of its own (`python -m runtime.mqtt.loopback_broker
JOB.json`). Neither lets anyone in without the password, and neither is reachable from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue

from edgesem.errors import EnvironmentMissing
from edgesem.packet.keys import write_private
from runtime.mqtt.address import Address
from runtime.mqtt.mosquitto import Listening, end, find_tool, start_mosquitto
from runtime.process.child import Child, Job, emit, run_child, stdin_closed

_HOST = "127.0.0.1"
_START_S = 15.0


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
            version = "5" if self.kind == "mosquitto" else "3.1.1"
            with socket.socket() as held:
                held.bind((_HOST, 0))
                # From here on, the system lets who names this port bind it, as the broker does, and gives it to nobody.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                port: int = held.getsockname()[1]
                self.address = Address(_HOST, port, user=user, password=password, version=version)
                try:
                    start(folder, stack)
                except EnvironmentMissing as error:
                    raise EnvironmentMissing(
                        f"the broker {self.kind} did not start: {error}; repair or remove it"
                    ) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_mosquitto(self, home: Path, stack: contextlib.ExitStack) -> None:
        log_path = home / "mosquitto.log"
        with log_path.open("wb") as log:
            process = start_mosquitto(self._listening(), home, log)
        stack.callback(end, process)
        deadline_s = time.monotonic() + _START_S
        while not answers(_HOST, self.address.port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise EnvironmentMissing(log_path.read_text("utf-8", errors="replace").strip()[-500:] or "no log")
            time.sleep(0.02)

    def _listening(self) -> Listening:
        return Listening(_HOST, self.address.port, {self.address.user or "": self.address.password or ""})

    def _start_amqtt(self, home: Path, stack: contextlib.ExitStack) -> None:
        job = amqtt_job(self._listening(), home)
        events: Queue[tuple[str, Job]] = Queue()
        stack.enter_context(
            Child(name="broker", module="runtime.mqtt.loopback_broker", job=job, folder=home, events=events)
        )
        try:
            _, event = events.get(timeout=_START_S)
        except Empty:
            raise EnvironmentMissing(f"no answer within {_START_S:.0f} s") from None
        if event["event"] != "ready":
            raise EnvironmentMissing(event["words"])


def amqtt_job(listening: Listening, home: Path) -> Job:
    """What to tell `python -m runtime.mqtt.loopback_broker`. EnvironmentMissing for what amqtt cannot do."""
    if listening.client_ca_file is not None:
        raise EnvironmentMissing("amqtt cannot ask for client certificates: apt install mosquitto")
    return {
        "home": str(home),
        "host": listening.host,
        "port": listening.port,
        "users": listening.users,
        "max_connections": listening.max_connections,
        "cert_file": str(listening.cert_file or ""),
        "key_file": str(listening.key_file or ""),
    }


def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


async def _serve_amqtt(job: Job) -> None:
    from amqtt.broker import Broker as Amqtt
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    passwords = Path(job["home"]) / "passwords"
    passwords.unlink(missing_ok=True)
    hasher = PasswordHash((Argon2Hasher(),))
    write_private(passwords, "".join(f"{name}:{hasher.hash(word)}\n" for name, word in job["users"].items()))
    # Naming `default` and `plugins` replaces what amqtt would do by itself: 0.0.0.0:1883, and everybody welcome.
    host = f"[{job['host']}]" if ":" in job["host"] else job["host"]
    listener = {"type": "tcp", "bind": f"{host}:{job['port']}", "max_connections": job["max_connections"]}
    if job["cert_file"]:
        listener |= {"ssl": True, "certfile": job["cert_file"], "keyfile": job["key_file"]}
    config = {
        "listeners": {"default": listener},
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

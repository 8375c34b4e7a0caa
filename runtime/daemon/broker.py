"""A broker for months: mosquitto, or amqtt where that is missing, watched and started again when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesem.config import setting
from edgesem.errors import EnvironmentMissing, InputError, UsageError
from runtime.mqtt.loopback_broker import amqtt_job, answers, choose_kind
from runtime.mqtt.mosquitto import Listening, end, start_mosquitto
from runtime.process.child import Child, Job
from runtime.process.signals import stop_on_signals
from runtime.process.systemd import notify
from runtime.settings import MonitorSettings

log = logging.getLogger(__name__)

_START_S = 30.0
_LOOK_S = 0.5
_FIRST_WAIT_S, _LAST_WAIT_S = 0.5, 15.0
_STEADY_S = 30.0
_MAX_USERS_BYTES = 1 << 20
USER = "edgesem"


@dataclass(frozen=True)
class ListenSettings:
    """Where to listen, and for whom."""

    host: str = "127.0.0.1"
    port: int = setting(1883, low=1, high=65535)
    users_file: Path | None = None
    """Lines of `name:password`, closed to other users. Without it, user `edgesem` with a password that we make."""
    cert_file: Path | None = None
    """The broker's certificate and key: TLS only, if named."""
    key_file: Path | None = None
    client_ca_file: Path | None = None
    """Clients must show a certificate that this CA has signed; its common name is their user name."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError("listen.cert_file and listen.key_file belong together: name both")
        if self.client_ca_file is not None and self.cert_file is None:
            raise UsageError("listen.client_ca_file needs listen.cert_file and listen.key_file too")


@dataclass(frozen=True)
class LimitSettings:
    """What the broker may hold."""

    max_connections: int = setting(1000, low=1, high=100_000)
    max_message_bytes: int = setting(512 * 1024, low=1024, high=268_435_455)
    max_queued_bytes: int = setting(64 * 1024 * 1024, low=65536, high=2**40)
    """For each client that does not keep up."""
    autosave_s: int = setting(2, low=1, high=3600)
    """Retained messages and sessions are written so often; promised frames do not depend on it."""


@dataclass(frozen=True)
class BrokerServiceSettings:
    """All that `edgesem broker` can be told."""

    kind: str = setting("", one_of=("", "mosquitto", "amqtt"))
    """What is installed, if empty."""
    listen: ListenSettings = field(default_factory=ListenSettings)
    limit: LimitSettings = field(default_factory=LimitSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)


def run_broker(settings: BrokerServiceSettings, tell: Callable[..., None]) -> None:
    """Run the broker until a signal comes; `tell` says where it listens, and each new start."""
    kind = settings.kind or choose_kind()
    home = settings.monitor.folder() / "broker"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{home}: {error.strerror}; name another --state-dir") from error
    listen, limit = settings.listen, settings.limit
    users, password_file = _users(listen, home)
    listening = Listening(
        listen.host,
        listen.port,
        users,
        keep_in=home,
        autosave_s=limit.autosave_s,
        cert_file=listen.cert_file,
        key_file=listen.key_file,
        client_ca_file=listen.client_ca_file,
        max_connections=limit.max_connections,
        max_message_bytes=limit.max_message_bytes,
        max_queued_bytes=limit.max_queued_bytes,
    )
    if answers(listen.host, listen.port):
        raise EnvironmentMissing(f"something listens on {listen.host}:{listen.port} already: name another --port")
    about: dict[str, Any] = {
        "kind": kind,
        "host": listen.host,
        "port": listen.port,
        "tls": listen.cert_file is not None,
        "users": sorted(users),
        "password_file": None if password_file is None else str(password_file),
    }
    with stop_on_signals() as stop:
        wait_s, starts = _FIRST_WAIT_S, 0
        while not stop.is_set():
            began_s = time.monotonic()
            with _begin(kind, listening, home) as running:
                if _comes_up(listening, running, stop):
                    starts += 1
                    tell(event="listening", starts=starts, **about)
                    notify("READY=1")
                    while running() and not stop.wait(_LOOK_S):
                        notify("WATCHDOG=1")
                elif not starts and not stop.is_set():
                    raise EnvironmentMissing(f"{kind} does not start; what it said stands above")
            if stop.is_set():
                break
            wait_s = _FIRST_WAIT_S if time.monotonic() - began_s > _STEADY_S else min(2 * wait_s, _LAST_WAIT_S)
            log.error("%s has ended by itself; starting it again in %.1f s", kind, wait_s)
            stop.wait(wait_s)
        notify("STOPPING=1")


@contextlib.contextmanager
def _begin(kind: str, listening: Listening, home: Path) -> Any:
    """A function that says whether the broker still runs; the broker ends with the block."""
    if kind == "mosquitto":
        process: subprocess.Popen[bytes] = start_mosquitto(listening, home, None)
        try:
            yield lambda: process.poll() is None
        finally:
            end(process)
        return
    events: queue.Queue[tuple[str, Job]] = queue.Queue()
    for name in ("amqtt.json", "amqtt.log"):
        (home / name).unlink(missing_ok=True)
    job = amqtt_job(listening, home)
    ended = threading.Event()

    def running() -> bool:
        while not ended.is_set():
            try:
                _, event = events.get_nowait()
            except queue.Empty:
                break
            if event["event"] == "exit":
                log.error("amqtt: %s", event["words"])
                ended.set()
        return not ended.is_set()

    with Child(name="amqtt", module="runtime.mqtt.loopback_broker", job=job, folder=home, events=events):
        yield running


def _comes_up(listening: Listening, running: Callable[[], bool], stop: threading.Event) -> bool:
    deadline_s = time.monotonic() + _START_S
    while running() and not stop.is_set() and time.monotonic() < deadline_s:
        if answers(listening.host, listening.port):
            return True
        stop.wait(0.05)
    return False


def _users(listen: ListenSettings, home: Path) -> tuple[dict[str, str], Path | None]:
    """Passwords by name, and the file that one was written to for whoever connects."""
    if listen.client_ca_file is not None:
        return {}, None
    if listen.users_file is None:
        path = home / "password"
        if not path.exists():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        return {USER: path.read_text("utf-8").strip()}, path
    path = listen.users_file
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            raise UsageError(f"{path} holds passwords and other users may open it: chmod o= {path}")
        with path.open("rb") as file:
            data = file.read(_MAX_USERS_BYTES + 1)
        lines = data.decode("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: it must hold lines of name:password") from error
    pairs = [line.partition(":") for line in lines if line.strip()]
    if len(data) > _MAX_USERS_BYTES or not pairs or not all(name and word and mark for name, mark, word in pairs):
        raise UsageError(f"{path} must hold lines of name:password")
    return {name: word for name, _, word in pairs}, None

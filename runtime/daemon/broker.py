"""Broker daemon: mosquitto, or amqtt where that is missing, watched and started again when it dies."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgesem.errors import EdgesemError, EnvironmentMissing, InputError, UsageError
from edgesem.packet.keys import decode_text, read_secret, write_private
from runtime.daemon.accounts import LOCAL_USER, PASSWORD_BYTES, Accounts, acl, stamp_of
from runtime.daemon.broker_settings import BrokerServiceSettings, ListenSettings
from runtime.mqtt.credentials import published_login
from runtime.mqtt.loopback_broker import amqtt_job, answers, choose_kind
from runtime.mqtt.mosquitto import Listening, end, end_orphans, reload_users, start_mosquitto
from runtime.process.child import Child, Job
from runtime.process.folder_lock import locked_folder
from runtime.process.service import Service, running_service

log = logging.getLogger(__name__)

_START_S = 30.0
_LOOK_S = 0.4
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.5, 15.0
_STEADY_S = 30.0
"""A broker that ran so long is started again without a longer wait."""
_MAX_USERS_BYTES = 1 << 20
_PORT_S = 5.0
"""How long a port may be taken by what an earlier start has left behind."""


@dataclass(frozen=True)
class _Running:
    """A broker process: `runs` says whether it still does, `take_up` gives it other users."""

    runs: Callable[[], bool]
    take_up: Callable[[Listening], None]


def run_broker(settings: BrokerServiceSettings, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Run the broker until a signal comes; `on_event` takes {"event": "listening"} and its address at each start.

    Raises EnvironmentMissing if no broker is installed, if it does not start, or if the port or the folder is taken.
    """
    kind = settings.kind or choose_kind()
    home = settings.monitor.folder() / "broker"
    lock = locked_folder(home, owner="an edgesem broker", setting="monitor.state_dir", mode=0o700)
    with lock, running_service() as service:
        orphan = end_orphans(home)
        if orphan:
            log.warning("ended a mosquitto that an earlier start has left behind: it was killed")
        listen = settings.listen
        _wait_for_port(listen, patient=orphan or (home / "amqtt.json").exists())
        users, password_file = _users(listen, home)
        accounts = Accounts(home)
        files = (listen.cert_file, listen.key_file, listen.client_ca_file) if kind == "mosquitto" else ()

        def look() -> object:
            return accounts.stamp(), [stamp_of(file) for file in files if file is not None]

        stamp = look()  # of those that are read after this, or of earlier ones: then they are read again
        listening = _with_accounts(_listening(settings, users, home), users, accounts, kind)
        about: dict[str, Any] = {
            "kind": kind,
            "host": listen.host,
            "port": listen.port,
            "tls": listen.cert_file is not None,
            "users": sorted(listening.users),
            "password_file": None if password_file is None else str(password_file),
        }
        with contextlib.ExitStack() as stack:
            login = None
            if users:  # with certificates there are none
                first = next(iter(users))
                login = stack.enter_context(published_login(listen.port, first, users[first]))
            about["credentials_file"] = None if login is None else str(login)

            def listens(starts: int) -> None:
                on_event({"event": "listening", "starts": starts, **about})

            def renew(old: Listening) -> Listening:
                _check_certificate(old)
                return _with_accounts(old, users, accounts, kind)

            _supervise(kind, listening, home, service, listens, renew, look, stamp)


def _supervise(
    kind: str,
    listening: Listening,
    home: Path,
    service: Service,
    on_listening: Callable[[int], None],
    renew: Callable[[Listening], Listening],
    look: Callable[[], object],
    stamp: object,
) -> None:
    """Keep a broker running until the service is to stop. `look()` changes with accounts and certificates; `stamp` is
    what it was of those in `listening`: what was changed before it listens, also while it is down, is taken up then."""
    wait_s, starts = _SHORTEST_WAIT_S, 0
    while not service.stop.is_set():
        began_s = time.monotonic()
        with _running_broker(kind, listening, home) as broker:
            if _comes_up(listening, broker.runs, service.stop):
                starts += 1
                on_listening(starts)
                service.ready()
                seen = stamp
                while broker.runs() and not service.stop.wait(_LOOK_S):
                    service.alive()
                    before, seen = seen, look()
                    if seen == before != stamp:  # certificate and key are not changed at the same moment
                        stamp = seen
                        listening = _take_up(broker, listening, renew)
            elif not starts and not service.stop.is_set():
                raise EnvironmentMissing(f"{kind} does not start; what it said stands above")
        if service.stop.is_set():
            return
        steady = time.monotonic() - began_s > _STEADY_S
        wait_s = _SHORTEST_WAIT_S if steady else min(2 * wait_s, _LONGEST_WAIT_S)
        log.error("%s has ended by itself; starting it again in %.1f s", kind, wait_s)
        service.stop.wait(wait_s)


def _take_up(broker: _Running, listening: Listening, renew: Callable[[Listening], Listening]) -> Listening:
    """Give a running broker accounts and certificates as they are now; what is wrong with them is logged, and it keeps
    the old ones until they change again."""
    try:
        changed = renew(listening)
        broker.take_up(changed)
    except EdgesemError as error:
        log.error("certificates or accounts were changed, but the broker keeps those before: %s", error)
        return listening
    log.info("took up certificates and accounts: %s", ", ".join(sorted(changed.users)) or "none")
    return changed


def _check_certificate(listening: Listening) -> None:
    """Raise InputError for a certificate that its key does not fit: mosquitto would take it, and then serve nobody."""
    if listening.cert_file is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(listening.cert_file, listening.key_file, password="")  # which it never asks for
        if listening.client_ca_file is not None:
            context.load_verify_locations(listening.client_ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise InputError(f"the TLS files of section [listen] cannot be used: {error}") from error


def _listening(settings: BrokerServiceSettings, users: dict[str, str], home: Path) -> Listening:
    listen, limit = settings.listen, settings.limit
    return Listening(
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


def _with_accounts(listening: Listening, users: dict[str, str], accounts: Accounts, kind: str) -> Listening:
    """`listening` with the accounts as they are now. EnvironmentMissing if there are some and amqtt is the broker."""
    known = accounts.all()
    if known and kind == "amqtt":
        raise EnvironmentMissing(
            "amqtt cannot hold an account to its own topics: install mosquitto (apt install mosquitto), or remove the "
            f"accounts ({', '.join(one.name for one in known)}) with edgesem account remove"
        )
    by_certificate = listening.client_ca_file is not None
    rules = acl(known, users, by_certificate=by_certificate)
    return replace(listening, users=users if by_certificate else {**accounts.passwords(), **users}, acl=rules)


def _wait_for_port(listen: ListenSettings, *, patient: bool) -> None:
    """EnvironmentMissing if somebody listens on the port; `patient`: also waits for our own broker to leave it."""
    deadline_s = time.monotonic() + (_PORT_S if patient else 0.0)
    while answers(listen.host, listen.port):
        if time.monotonic() >= deadline_s:
            where = f"{listen.host}:{listen.port}"
            raise EnvironmentMissing(f"something listens on {where} already: name another listen.port")
        time.sleep(0.1)


@contextlib.contextmanager
def _running_broker(kind: str, listening: Listening, home: Path) -> Iterator[_Running]:
    """A broker process that ends with the block."""
    if kind == "mosquitto":
        process: subprocess.Popen[bytes] = start_mosquitto(listening, home, None)
        try:
            yield _Running(lambda: process.poll() is None, lambda changed: reload_users(process, changed, home))
        finally:
            end(process)
        return
    events: queue.Queue[tuple[str, Job]] = queue.Queue()
    for name in ("amqtt.json", "amqtt.log"):
        (home / name).unlink(missing_ok=True)
    job = amqtt_job(listening, home)
    ended = threading.Event()

    def runs() -> bool:
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
        yield _Running(runs, lambda _: None)
    (home / "amqtt.json").unlink(missing_ok=True)  # it ended in order, so nothing of it can hold the port


def _comes_up(listening: Listening, runs: Callable[[], bool], stop: threading.Event) -> bool:
    """Wait until the broker listens; returns whether it does."""
    deadline_s = time.monotonic() + _START_S
    while runs() and not stop.is_set() and time.monotonic() < deadline_s:
        if answers(listening.host, listening.port):
            return True
        stop.wait(0.05)
    return False


def _users(listen: ListenSettings, home: Path) -> tuple[dict[str, str], Path | None]:
    """Passwords by user name, and the file of the one that we made."""
    if listen.client_ca_file is not None:
        return {}, None
    if listen.users_file is None:
        return {LOCAL_USER: _own_password(home / "password")}, home / "password"
    path = listen.users_file
    try:
        if path.stat().st_mode & stat.S_IRWXO:
            raise UsageError(f"{path} holds passwords and other users may open it: chmod o= {path}")
        with path.open("rb") as file:
            data = file.read(_MAX_USERS_BYTES + 1)
        lines = decode_text(data).splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: it must hold lines of name:password") from error
    pairs = [line.partition(":") for line in lines if line.strip()]
    if len(data) > _MAX_USERS_BYTES or not pairs or not all(name and word and mark for name, mark, word in pairs):
        raise UsageError(f"{path} must hold lines of name:password")
    return {name: word for name, _, word in pairs}, None


def _own_password(path: Path) -> str:
    """The password in the file; a new one is made if it is missing, or empty, as after a power cut."""
    try:
        if not path.exists() or not path.read_bytes().strip():
            path.unlink(missing_ok=True)
            write_private(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    password = read_secret(path, "")
    assert password is not None
    return password

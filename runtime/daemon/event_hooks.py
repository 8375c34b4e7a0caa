"""Event hooks of a receiver: a command that is run and a webhook that is called for each event."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import queue
import secrets
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from edgesem.errors import UsageError

log = logging.getLogger(__name__)

_MOST_WAITING = 64
_LAST_S = 2.0
_SECRETS = ("EDGESEM_PASSWORD", "EDGESEM_SEAL_KEY")
"""Of our environment, what a command is not told."""
_MOST_ANSWER_BYTES = 65536


class HookCall(NamedTuple):
    """What the hooks are told of one event."""

    event: Mapping[str, Any]
    """As in the MQTT message."""
    files: Mapping[str, Path]
    """`picture`, `clip`, `sheet`: those that are there."""


class EventHooks:
    """Calls a command, a webhook or both, one event after the other, on a thread that begins with the first event.

    `put` returns at once; of more than 64 events that wait, the oldest is left out. Each call ends after `timeout_s`. A
    failure is logged once, until a call succeeds again, and is not tried again. Use it as a context manager; calls that
    wait at its end are left out.
    """

    def __init__(self, command: Sequence[str], webhook: str, *, timeout_s: float) -> None:
        self._command, self._timeout_s = list(command), timeout_s
        self._webhook = WebhookUrl.parse(webhook) if webhook else None
        self._calls: queue.Queue[HookCall | None] = queue.Queue(_MOST_WAITING)
        self._failed: set[str] = set()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __enter__(self) -> EventHooks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        if self._thread is None:
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        self._calls.put(None)
        self._thread.join(_LAST_S)
        if (child := self._child) is not None:
            _kill(child)

    def put(self, call: HookCall) -> None:
        """Have the hooks called."""
        if self._stopped or not (self._command or self._webhook):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event hooks", daemon=True)
            self._thread.start()
        while True:
            try:
                self._calls.put_nowait(call)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._calls.get_nowait()
                self._note("queue", f"more than {_MOST_WAITING} events wait for their hooks: the oldest are left out")

    def _run(self) -> None:
        while (call := self._calls.get()) is not None and not self._stopped:
            if self._calls.empty():
                self._failed.discard("queue")
            if self._command:
                self._try("command", self._run_command, call)
            if self._webhook is not None and not self._stopped:
                self._try("webhook", self._call_webhook, call)

    def _try(self, name: str, work: Any, call: HookCall) -> None:
        try:
            trouble = work(call)
        except Exception as error:  # whatever a stranger's server answers, the next event has its turn
            trouble = f"{type(error).__name__}: {error}"
        if trouble:
            self._note(name, f"the {name} for events has failed, which is logged once: {trouble}")
        elif name in self._failed:
            self._failed.discard(name)
            log.info("the %s for events works again", name)

    def _note(self, name: str, text: str) -> None:
        if name not in self._failed and not self._stopped:
            self._failed.add(name)
            log.warning("%s", text)

    def _run_command(self, call: HookCall) -> str:
        """Run the command; why it has failed, or nothing."""
        own = {key: value for key, value in os.environ.items() if key not in _SECRETS}
        about = {key: call.event[key] for key in ("id", "stream", "phase", "cause", "label", "time", "time_ms")}
        told = {**about, **call.files}
        try:
            child = self._child = subprocess.Popen(
                self._command,
                env=own | {f"EDGESEM_EVENT_{key.upper()}": str(value) for key, value in told.items()},
                stdin=subprocess.PIPE,
                stdout=2,  # our own output is for events as JSON
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return str(error)
        try:
            child.communicate(json.dumps(call.event).encode(), timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            return f"it took more than {self._timeout_s:g} s and was killed"
        finally:
            _kill(child)
            self._child = None
        return f"it ended with code {child.returncode}" if child.returncode else ""

    def _call_webhook(self, call: HookCall) -> str:
        """POST the event and its picture; why that has failed, or nothing."""
        url = self._webhook
        assert url is not None
        boundary = f"edgesem-{secrets.token_hex(12)}"
        body = multipart(boundary, call)
        connection = url.connection(self._timeout_s)
        deadline = threading.Timer(self._timeout_s, lambda: _cut(connection))
        deadline.daemon = True
        started_s = time.monotonic()
        try:
            deadline.start()
            connection.request(
                "POST",
                url.target,
                body,
                {"Content-Type": f"multipart/form-data; boundary={boundary}", "User-Agent": "edgesem", **url.login()},
            )
            answer = connection.getresponse()
            answer.read(_MOST_ANSWER_BYTES)
            trouble = ""
        except (OSError, http.client.HTTPException) as error:
            trouble = f"{url.host}: {error or type(error).__name__}"
        finally:
            deadline.cancel()
            connection.close()
        if time.monotonic() - started_s >= self._timeout_s:  # an answer that was cut may look like a short one
            return f"{url.host} took more than {self._timeout_s:g} s"
        return trouble or self._status_trouble(url, answer)

    @staticmethod
    def _status_trouble(url: WebhookUrl, answer: http.client.HTTPResponse) -> str:
        return "" if 200 <= answer.status < 300 else f"{url.host} answered {answer.status} {answer.reason[:80]}"


class WebhookUrl(NamedTuple):
    """Where a webhook is called. Its path may hold a secret, so only its host stands in logs."""

    tls: bool
    host: str
    port: int | None
    target: str
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> WebhookUrl:
        """The URL of a webhook, http or https. UsageError for anything else."""
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            raise UsageError("the URL of the webhook for events cannot be read") from None
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        plain = target.isascii() and target.isprintable() and " " not in target
        if url.scheme not in ("http", "https") or not url.hostname or not plain:
            raise UsageError("the webhook for events must be http://HOST/... or https://HOST/..., other letters as %XX")
        login = unquote(url.username or ""), unquote(url.password or "")
        return cls(url.scheme == "https", url.hostname, port, target, *login)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that is not made yet."""
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_s)

    def login(self) -> dict[str, str]:
        """The header of its login, if it has one."""
        if not self.user:
            return {}
        return {"Authorization": f"Basic {b64encode(f'{self.user}:{self.password}'.encode()).decode()}"}


def multipart(boundary: str, call: HookCall) -> bytes:
    """Body of a form with two fields: `event` (JSON), and `picture` (JPEG file), if that is there: the contact sheet
    once there is one."""
    parts = [('name="event"\r\nContent-Type: application/json', json.dumps(call.event).encode())]
    picture = call.files.get("sheet") or call.files.get("picture")
    if picture is not None:
        with contextlib.suppress(OSError):
            head = f'name="picture"; filename="{picture.name}"\r\nContent-Type: image/jpeg'
            parts.append((head, picture.read_bytes()))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection that has taken its time: its own timeout is for each byte."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started; nothing happens if it has ended."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_LAST_S)

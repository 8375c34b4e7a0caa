"""Explanation of a failed connection: its likely cause and the next step, in one line.

What paho and OpenSSL say names the symptom. Where several causes have the same symptom, the port is asked what it
speaks: `explain` may open up to three short connections to it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable

from runtime.mqtt.address import Address
from runtime.mqtt.credentials import is_loopback

REPEAT_S = 600.0
"""The same trouble is explained again after so long."""
_PROBE_S = 3.0
_MOST_TROUBLES = 32

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"hostname mismatch|ip address mismatch|doesn't match",
        "the broker's certificate is for another name: write --host as the certificate has it",
    ),
    (
        r"certificate has expired|not yet valid",
        "the broker's certificate is out of date, or this machine's clock is wrong: compare `date` with it",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|self[- ]signed|unable to get local issuer",
        "nobody whom this machine trusts has signed the broker's certificate: name its CA with --ca-file",
    ),
    (
        r"CERTIFICATE_REQUIRED|ALERT_HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA|ALERT_CERTIFICATE",
        "the broker wants a certificate of this client, of a CA that it trusts: name --cert-file and --key-file",
    ),
    (r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|NO_SHARED_CIPHER", "the broker's TLS is too old: it must speak TLS 1.2"),
    (
        r"refused",
        "nobody listens there: check --host and --port, and that the broker runs (here: `edgesem broker`)",
    ),
    (r"Name or service not known|name resolution|nodename nor servname", "no such host: check --host and the DNS"),
    (r"No route to host|unreachable", "there is no way to it: check the network of this machine, and --host"),
    (r"timed out", "nothing answers: check --host and --port, the network, and firewalls on the way"),
    (
        r"identifier|Client identifier",
        "the broker refuses our client identifier: look for a rule on client identifiers in its configuration",
    ),
    (r"banned|quota|busy|unavailable", "the broker turns clients away at present: look into its log"),
)
_UNKNOWN = "look into the broker's log"


def explain(address: Address, trouble: str) -> str:
    """`trouble` with its likely cause and what to do. It may take some seconds, as it may ask the port."""
    return f"{trouble}; {_cause(address, trouble)}"


def _cause(address: Address, trouble: str) -> str:
    if re.search(r"not authori[sz]ed|bad user|user name or password", trouble, re.IGNORECASE):
        return _login(address)
    for pattern, cause in _CAUSES:
        if re.search(pattern, trouble, re.IGNORECASE):
            return cause
    spoken = _probe(address.host, address.port)
    if spoken == "http":
        return "this port speaks HTTP or WebSocket: name the broker's plain MQTT port, such as 1883, or 8883 with --tls"
    if spoken == "tls" and not address.tls:
        return "this port speaks TLS: add --tls (and --ca-file for a CA of your own)"
    if spoken == "mqtt" and address.tls:
        return "this port speaks MQTT without TLS: leave --tls out, or name the TLS port, such as 8883"
    if spoken == "tls" and address.cert_file is None:
        return "it may want a certificate of this client (--cert-file, --key-file); " + _UNKNOWN
    return _UNKNOWN if spoken else "it does not speak MQTT as we know it: check --port; " + _UNKNOWN


def _login(address: Address) -> str:
    if address.user is not None:
        return "user or password is wrong, or that user may not do this: check --user, --password-file and the ACL"
    if is_loopback(address.host):
        return (
            "it wants a user and password: name --user and --password-file. The login of an `edgesem broker` is found "
            "by itself only by the user who runs it"
        )
    return "it wants a user and password: name --user and --password-file"


def _probe(host: str, port: int) -> str:
    """What a port speaks: `tls`, `http` (also inside TLS), `mqtt`, or nothing that we know."""
    inside_tls = _reply(host, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", tls=True)
    if inside_tls is not None:
        return "http" if inside_tls.startswith(b"HTTP/") else "tls"
    if (_reply(host, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") or b"").startswith(b"HTTP/"):
        return "http"
    name = b"probe" + secrets.token_hex(6).encode()
    body = b"\0\4MQTT\4\2\0\x05" + len(name).to_bytes(2, "big") + name
    connect = b"\x10" + bytes([len(body)]) + body
    return "mqtt" if (_reply(host, port, connect) or b"").startswith(b"\x20") else ""


def _reply(host: str, port: int, request: bytes, *, tls: bool = False) -> bytes | None:
    """The first bytes of an answer, b"" if there are none; None if no connection (with `tls`: no TLS) came about."""
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(socket.create_connection((host, port), timeout=_PROBE_S))
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=host))
        except ssl.SSLError as error:  # an alert is an answer in TLS too
            return b"" if "ALERT" in str(error.reason) else None
        except OSError:
            return None
        try:
            sock.sendall(request)
            return sock.recv(64)
        except OSError:
            return b""


class TroubleLog:
    """Log of failed connections: a trouble is explained when it is new, and again every `every_s` seconds.

    In between it is logged at level DEBUG. Thread-safe. `clock` gives monotonic seconds.
    """

    def __init__(
        self, log: logging.Logger, every_s: float = REPEAT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._every_s, self._clock, self._lock = log, every_s, clock, threading.Lock()
        self._said_s: dict[str, float] = {}
        self._explained: dict[str, str] = {}
        self._times = 0

    def warn(self, address: Address, trouble: str) -> str:
        """Log the trouble if that is due, and return it with its explanation."""
        with self._lock:
            now_s = self._clock()
            self._times += 1
            times, said_s = self._times, self._said_s.get(trouble)
            due = said_s is None or now_s - said_s >= self._every_s
            if due:
                if len(self._said_s) >= _MOST_TROUBLES:
                    self._said_s.clear()
                    self._explained.clear()
                self._said_s[trouble] = now_s
        if not due:
            self._log.debug("no connection to %s: %s", address, trouble)
            return self._explained.get(trouble, trouble)
        explained = self._explained[trouble] = explain(address, trouble)
        again = f" ({times} attempts so far)" if times > 1 else ""
        self._log.warning("no connection to %s: %s%s; trying again until it works", address, explained, again)
        return explained

    def clear(self) -> None:
        """A connection stands: what goes wrong later is new."""
        with self._lock:
            self._said_s.clear()
            self._explained.clear()
            self._times = 0

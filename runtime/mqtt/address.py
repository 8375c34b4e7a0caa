"""Address of a broker, with login and TLS."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgesem.errors import InputError, UsageError


@dataclass(frozen=True)
class Address:
    """Where a broker listens, as whom to log in, and how to check that it is the right one.

    UsageError for a host that is none.
    """

    host: str
    """A name or an IP address; `[::1]` is the same as `::1`."""
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    version: str | None = None
    """The MQTT version it speaks, `5` or `3.1.1`, if that is known; otherwise both are tried."""
    tls: bool = False
    ca_file: Path | None = None
    """Certificates of who must have signed the broker's; the system's, if None."""
    cert_file: Path | None = None
    """Our own certificate, where the broker asks for one; it needs `key_file`."""
    key_file: Path | None = None
    congestion: str = ""
    """TCP's congestion control for this connection, such as `cubic`; the system's if empty."""
    read_login: Callable[[], tuple[str, str | None]] | None = field(default=None, repr=False, compare=False)
    """Reads user and password anew, where they stand in a file that may change; it may raise EdgesemError."""

    def __post_init__(self) -> None:
        written = HostText.parse(self.host)
        if written.port is not None or written.tls is not None:
            raise UsageError(f"{self.host!r}: an Address has host, port and tls apart: Address({written.host!r}, ...)")
        object.__setattr__(self, "host", written.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def with_present_login(self) -> Address:
        """The same with user and password as their file has them now. Raises what `read_login` does."""
        if self.read_login is None:
            return self
        user, password = self.read_login()
        return replace(self, user=user or None, password=password)

    def tls_context(self, *, asks: bool = True) -> ssl.SSLContext | None:
        """The TLS settings of a connection; None without TLS. InputError if a file cannot be used.

        asks: the terminal is asked for the passphrase of an encrypted key; else such a key cannot be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file, password=None if asks else "")
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(str(path) for path in (self.ca_file, self.cert_file, self.key_file) if path is not None)
            raise InputError(f"cannot use the TLS files {files}: {error}") from error
        return context


@dataclass(frozen=True)
class HostText:
    """A broker as people write it: the host, and port and TLS where the text says them."""

    host: str
    port: int | None = None
    tls: bool | None = None

    def __str__(self) -> str:
        scheme = {None: "", False: "mqtt://", True: "mqtts://"}[self.tls]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{host}" + ("" if self.port is None else f":{self.port}")

    @classmethod
    def parse(cls, text: str) -> HostText:
        """`HOST`, `HOST:PORT`, `::1`, `[::1]`, `[::1]:PORT`, `mqtt://...` or `mqtts://...`; UsageError for others."""
        scheme, mark, rest = text.strip().rpartition("://")
        tls = {"": None, "mqtt": False, "tcp": False, "mqtts": True, "ssl": True}.get(scheme.lower())
        if mark and tls is None:
            raise UsageError(f"{text!r}: a broker is reached by mqtt:// or mqtts://, not by {scheme or 'no scheme'}://")
        rest = rest.removesuffix("/")
        if "@" in rest:
            raise UsageError("a login does not belong into the broker's address: name user and password file")
        host, port_text = rest, ""
        if rest.startswith("[") and "]" in rest:
            host, _, port_text = rest[1:].partition("]")
            port_text = port_text if port_text[:1] in ("", ":") else "?"
        elif rest.count(":") == 1:
            host, _, port_text = rest.partition(":")
            port_text = ":" + port_text
        port = None
        if port_text:
            digits = port_text[1:]
            port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0
        if port is not None and not 1 <= port <= 65535:
            raise UsageError(f"{text!r}: the port must be a number from 1 to 65535")
        if not _is_host(host):
            raise UsageError(f"{text!r} is no host: write a name such as broker.example, 192.0.2.1, or [2001:db8::1]")
        return cls(host, port, tls)


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    try:
        host.encode("idna")  # as getaddrinfo does: labels have 1 to 63 characters
    except UnicodeError:
        return False
    return bool(host) and host.isprintable() and not set(host) & set(" /\\?#[]")

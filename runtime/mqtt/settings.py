"""The section `[broker]` of the daemons' settings: where the MQTT broker is, and how to log in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import UsageError
from edgesem.packet.keys import read_secret
from runtime.mqtt.address import Address, HostText

MQTT_PORT, MQTTS_PORT = 1883, 8883
"""Without TLS, and with it."""
ACK_TIMEOUT_S = 10.0
"""If the broker confirms nothing for so long, the connection is made anew."""
_LOCAL = "127.0.0.1"
_MOST_BROKERS = 16


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker is and how to come in. The same for sender and receiver."""

    host: str = _LOCAL
    """Name or IP address of the broker; `HOST:PORT`, `[::1]`, `mqtt://HOST` and `mqtts://HOST` (TLS) too. Several, the
    nodes of one cluster, with commas between them."""
    hosts: tuple[str, ...] = ()
    """The same as a list, in place of `host`."""
    port: int = setting(MQTT_PORT, low=1, high=65535)
    """TCP port of the broker, where `host` names none."""
    user: str = ""
    """User name at the broker; none if empty."""
    password_file: Path | None = None
    """One line, closed to other users; $EDGESEM_PASSWORD without it."""
    login_file: Path | None = None
    """In place of `user` and `password_file`: one line, USER:PASSWORD, closed to other users."""
    version: str = setting("", one_of=("", "5", "3.1.1"))
    """Of MQTT; empty: both are tried."""
    tls: bool = False
    """Connect by TLS."""
    ca_file: Path | None = None
    """Certificate authority that must have signed the broker's certificate; the system's if not set."""
    cert_file: Path | None = None
    """Own certificate, where the broker asks for one."""
    key_file: Path | None = None
    """Private key of `cert_file`."""
    congestion: str = ""
    """TCP congestion control of our socket, such as cubic; the system's if empty."""
    ack_timeout_s: float = setting(ACK_TIMEOUT_S, low=1, high=600)
    """If the broker confirms nothing for so long, the connection is made anew."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError("broker.cert_file and broker.key_file belong together: name both")
        if self.login_file is not None and (self.user or self.password_file is not None):
            raise UsageError("broker.login_file holds both: leave broker.user and broker.password_file out")
        if self.hosts and self.host not in (_LOCAL, self._place(self.hosts[0]).host):
            raise UsageError("broker.host and broker.hosts both name brokers: leave one of them out")
        texts = self.hosts or tuple(text.strip() for text in self.host.split(","))
        if len(texts) > _MOST_BROKERS:
            raise UsageError(f"{len(texts)} brokers named, {_MOST_BROKERS} at most")
        places = [self._place(text) for text in texts]
        if len({(place.host, place.port) for place in places}) < len(places):
            raise UsageError(f"a broker is named twice: {', '.join(texts)}")
        object.__setattr__(self, "host", places[0].host)
        object.__setattr__(self, "port", places[0].port)
        object.__setattr__(self, "tls", bool(places[0].tls))
        object.__setattr__(self, "hosts", tuple(map(str, places)) if len(places) > 1 else ())
        if not any(place.tls for place in places) and (self.ca_file or self.cert_file):
            raise UsageError("broker.ca_file and broker.cert_file are of no use without broker.tls")

    def _place(self, text: str) -> HostText:
        """Host, port and TLS of one of the brokers."""
        written = HostText.parse(text)
        alone = not self.hosts and "," not in self.host
        if alone and written.port is not None and self.port not in (MQTT_PORT, written.port):
            raise UsageError(f"broker.host says port {written.port} and broker.port {self.port}: name one of them")
        if written.tls is False and self.tls:
            raise UsageError("broker.host says mqtt://, which is without TLS: write mqtts://, or leave broker.tls out")
        by_tls = MQTTS_PORT if written.tls and self.port == MQTT_PORT else self.port
        return HostText(written.host, written.port or by_tls, self.tls or bool(written.tls))

    def addresses(self) -> list[Address]:
        """The brokers' addresses, with the password from its file or the environment."""
        first = self.address()
        places = [HostText.parse(text) for text in self.hosts]
        return [
            replace(first, host=place.host, port=place.port or first.port, tls=bool(place.tls)) for place in places
        ] or [first]

    def address(self) -> Address:
        """The address of the broker that is named first."""
        user, password = self._login()
        if password is not None and not user:
            raise UsageError("there is a password for the broker, but no broker.user")
        return Address(
            self.host,
            self.port,
            user=user or None,
            password=password,
            version=self.version or None,
            tls=self.tls,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            congestion=self.congestion,
            read_login=self._login if _may_change(self.login_file) or _may_change(self.password_file) else None,
        )

    def _login(self) -> tuple[str, str | None]:
        if self.login_file is None:
            return self.user, read_secret(self.password_file, "EDGESEM_PASSWORD")
        user, colon, password = (read_secret(self.login_file, "") or "").partition(":")
        if not user or not colon:
            raise UsageError(f"{self.login_file} must hold one line, USER:PASSWORD")
        return user, password


def _may_change(path: Path | None) -> bool:
    """Whether a file can be read again: a pipe would give nothing, or wait for ever."""
    return path is not None and path.is_file()

"""Settings of `edgesem broker`, from a TOML file or from flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import UsageError
from runtime.settings import MonitorSettings


@dataclass(frozen=True)
class ListenSettings:
    """Where to listen, and for whom."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network."""
    port: int = setting(1883, low=1, high=65535)
    """TCP port to listen on."""
    users_file: Path | None = None
    """Lines of `name:password`, closed to other users. Without it, user `edgesem` with a password that we make."""
    cert_file: Path | None = None
    """The broker's certificate: TLS only, if named."""
    key_file: Path | None = None
    """Private key of `cert_file`."""
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
    """Clients at the same time."""
    max_message_bytes: int = setting(512 * 1024, low=1024, high=268_435_455)
    """Largest MQTT message."""
    max_queued_bytes: int = setting(64 * 1024 * 1024, low=65536, high=2**40)
    """Size of the queue of a client that does not keep up."""
    autosave_s: int = setting(2, low=1, high=3600)
    """Retained messages and sessions are written so often; promised frames do not depend on it."""


@dataclass(frozen=True)
class BrokerServiceSettings:
    """Settings of `edgesem broker`."""

    kind: str = setting("", one_of=("", "mosquitto", "amqtt"))
    """Program to run: mosquitto or amqtt; what is installed, if empty."""
    listen: ListenSettings = field(default_factory=ListenSettings)
    limit: LimitSettings = field(default_factory=LimitSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

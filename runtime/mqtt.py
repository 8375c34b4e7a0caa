"""The MQTT connection of a sender or a receiver: topics, one client with our socket options, typed errors.

MQTT 5 where the broker speaks it, otherwise 3.1.1. Nothing here queues: what is published is paho's business only until
it stands in the socket, so a sender publishes no more than its own window allows (see `runtime.sender`).
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgesem.errors import LinkError, UsageError

log = logging.getLogger(__name__)

_VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_KEEP_ALIVE_S = 15
_CONNECT_S = 10.0
_PROBES = 5
_NOT_SENT_BYTES = 16 * 1024
_REFUSED_LOGIN = ("Bad user name or password", "Not authorized")


@dataclass(frozen=True)
class Address:
    """Where a broker listens, and who we are to it."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    version: str | None = None
    """The MQTT version it speaks, `5` or `3.1.1`, if that is known; otherwise both are tried."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Topics:
    """The topics of one stream: `edgesem/v1/{site}/{device}/{stream}/...`."""

    site: str = "demo"
    device: str = "camera"
    stream: str = "main"

    def __post_init__(self) -> None:
        for part in (self.site, self.device, self.stream):
            if not part or set(part) & set("/+#\0"):
                raise UsageError(f"topic part {part!r}: must not be empty nor have / + # in it")

    @property
    def base(self) -> str:
        """What all topics of the stream start with."""
        return f"edgesem/v1/{self.site}/{self.device}/{self.stream}"

    @property
    def ack(self) -> str:
        """Where receivers say what they have."""
        return f"{self.base}/ack"

    @property
    def every_layer(self) -> str:
        """The filter that takes the packets of all layers."""
        return f"{self.base}/pkt/+"

    def layer(self, layer: int) -> str:
        """Where the packets of one layer go."""
        return f"{self.base}/pkt/{layer}"


class Connection:
    """A live connection to a broker; `on_message(topic, payload)` is called on its network thread.

    It connects when entered, and raises LinkError if it cannot. Lost connections are taken up again by paho, and the
    subscription with them.
    """

    def __init__(
        self,
        address: Address,
        *,
        name: str,
        subscribe: str | None = None,
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.address = address
        self.version = ""
        """`5` or `3.1.1`, once connected."""
        self.rtt_s: float | None = None
        """The shortest time that a small message to the broker and its answer took, measured as we subscribed."""
        self._name = f"edgesem-{name}-{secrets.token_hex(4)}"
        self._subscribe = subscribe
        self._on_message = on_message
        self._client: paho.Client | None = None

    def __enter__(self) -> Connection:
        trouble = ""
        # amqtt does not refuse MQTT 5, it falls silent: for it, and for any broker like it, time must run out.
        for version in [self.address.version] if self.address.version else list(_VERSIONS):
            trouble = self._try(_VERSIONS[version])
            if not trouble:
                self.version = version
                return self
            if trouble in _REFUSED_LOGIN:
                break
            log.info("MQTT %s at %s did not work: %s", version, self.address, trouble)
        raise LinkError(f"no MQTT connection to {self.address}: {trouble}; check address, user and password")

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    @property
    def connected(self) -> bool:
        """Whether a message published now would leave at once."""
        return self._client is not None and self._client.is_connected()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Hand one message to the socket; LinkError if there is no connection, so that paho never queues it."""
        if self._client is None or not self._client.is_connected():
            raise LinkError(f"not connected to {self.address}")
        self._client.publish(topic, payload, qos=qos)

    def _try(self, protocol: MQTTProtocolVersion) -> str:
        """Connect and subscribe; returns what went wrong, or nothing."""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self._name, protocol=protocol)
        client.username_pw_set(self.address.user, self.address.password)
        settled = threading.Event()
        trouble: list[str] = []
        asked_s: list[float] = []

        def settle(what: str) -> None:
            if not settled.is_set():
                trouble.append(what)
                settled.set()

        def on_connect(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                settle(str(reason))
            elif self._subscribe is None:
                settle("")
            else:
                subscribe(client)

        def subscribe(client: paho.Client) -> None:
            asked_s.append(time.monotonic())
            client.subscribe(self._subscribe or "", qos=1)

        def on_subscribe(client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
            rtt_s = time.monotonic() - asked_s[-1]
            self.rtt_s = rtt_s if self.rtt_s is None else min(self.rtt_s, rtt_s)
            refused = next((f"{self._subscribe}: {reason}" for reason in reasons if reason.is_failure), "")
            if refused or len(asked_s) >= _PROBES:
                settle(refused)
            else:  # once more, for the clock's sake: a busy machine makes single round trips long
                subscribe(client)

        def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            if self._on_message is not None:
                self._on_message(message.topic, bytes(message.payload))

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        client.on_disconnect = lambda _c, _d, _f, reason, _p: settle(f"the broker hung up ({reason})")
        client.on_socket_open = lambda _c, _d, sock: _set_options(sock)
        try:
            client.connect(self.address.host, self.address.port, keepalive=_KEEP_ALIVE_S)
            client.loop_start()
        except OSError as error:
            return str(error)
        if not settled.wait(_CONNECT_S):
            settle(f"no answer within {_CONNECT_S:.0f} s")
        if trouble[0]:
            client.disconnect()
            client.loop_stop()
        else:
            self._client = client
        return trouble[0]


def _set_options(sock: object) -> None:
    """Small messages leave at once, and what the path cannot take yet stays visible to us instead of in the kernel."""
    if not isinstance(sock, socket.socket):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        not_sent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if not_sent is not None:
            sock.setsockopt(socket.IPPROTO_TCP, not_sent, _NOT_SENT_BYTES)

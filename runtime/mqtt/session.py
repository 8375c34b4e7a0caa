"""Session: one MQTT connection from its connect to its end, a paho client with our socket options."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from edgesem.errors import LinkError, PacketError
from runtime.mqtt.address import Address

log = logging.getLogger(__name__)

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
CONNECT_S = 10.0
DIAL_S = 5.0

_KEEP_ALIVE_S = 15
_CLOSE_S = 1.0
_CALLBACKS = ("on_connect", "on_subscribe", "on_message", "on_publish", "on_disconnect", "on_socket_open")
_PROBES = 5
# Above our own window: what the kernel does not take, paho would hold, and `unacked_bytes` would not see it.
_NOT_SENT_BYTES = 128 * 1024


class Session:
    """A paho client that is used once: paho would send again, after a reconnect, whatever old frames it still holds.

    `on_message(topic, payload)` is called on its thread; `will` is what the broker publishes for us, retained, once we
    are lost.
    """

    def __init__(
        self,
        address: Address,
        version: str,
        *,
        name: str,
        tls: ssl.SSLContext | None,
        filters: Sequence[str],
        on_message: Callable[[str, bytes], None] | None,
        will: tuple[str, bytes] | None,
    ) -> None:
        self.ended = threading.Event()
        self.trouble = ""
        self.rtt_s: float | None = None
        self._address, self._filters, self._on_message = address, filters, on_message
        self._settled = threading.Event()
        self._asked_s: list[float] = []
        self._limit_bytes: int | None = None
        self._socket: socket.socket | None = None
        # paho may confirm a message before it has told us its id. Each side first notes its half, then looks for the
        # other, so one of them finds both; a lock would deadlock with the one that paho holds in its callbacks.
        self._waiting: dict[int, Callable[[], None]] = {}
        self._early: set[int] = set()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=VERSIONS[version], reconnect_on_failure=False
        )
        client.connect_timeout = DIAL_S
        if version == "3.1.1":  # which has no limit; in MQTT 5, brokers may tell one, and paho does not look at it
            client.max_inflight_messages_set(0xFFFF)
        client.username_pw_set(address.user, address.password)
        if tls is not None:
            client.tls_set_context(tls)
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        client.on_publish = self._published
        client.on_disconnect = self._disconnected
        client.on_socket_open = self._opened
        self._client = client

    @property
    def up(self) -> bool:
        """Whether the broker has taken us, and we have not lost it."""
        return self._client.is_connected() and not self.ended.is_set()

    def open(self) -> str:
        """Connect and subscribe; returns what went wrong, or nothing."""
        try:
            self._client.connect(self._address.host, self._address.port, keepalive=_KEEP_ALIVE_S)
        except (OSError, ValueError) as error:
            self.ended.set()
            self.close()
            return str(error)
        self._client.loop_start()
        if not self._settled.wait(CONNECT_S):
            self._settle(f"no answer within {CONNECT_S:.0f} s")
        if self.trouble:
            self.close()
        return self.trouble

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, confirm: Callable[[], None] | None) -> None:
        """As `Connection.publish`."""
        if self._limit_bytes is not None and len(topic) + len(payload) + 16 > self._limit_bytes:
            raise PacketError(f"{len(payload)} bytes on {topic}: the broker takes {self._limit_bytes} at most")
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"not connected to {self._address}: {info.rc.name}")
        self._waiting[info.mid] = confirm or (lambda: None)
        if info.mid in self._early:
            self._confirm(info.mid)

    def unacked_bytes(self) -> int | None:
        """What the kernel has of ours that the broker's kernel has not acknowledged; None where it does not tell."""
        sock = self._socket
        if sock is None or sys.platform != "linux":
            return None
        import fcntl
        import termios

        try:
            return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):  # closed at this moment
            return None

    def hang_up(self) -> None:
        """Part from the broker in peace."""
        self._client.disconnect()
        if not self.ended.wait(_CLOSE_S):
            self.cut()

    def cut(self) -> None:
        """End the connection without a word: there may be nobody to hear one."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                # The plain socket's method also where it speaks TLS: paho may be reading from it at this moment.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """After the end: wait for paho's thread."""
        if not self.ended.is_set():
            self.hang_up()
        with contextlib.suppress(AttributeError):  # paho forgets its thread, when that ends, without a lock
            self._client.loop_stop()
        # The client and we hold each other; parted, its sockets are closed now and not when the interpreter looks for
        # circles, which in a quiet daemon may be many connections later.
        for name in _CALLBACKS:
            setattr(self._client, name, None)

    def _settle(self, trouble: str) -> None:
        if not self._settled.is_set():
            self.trouble = trouble
            self._settled.set()

    def _opened(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if isinstance(sock, socket.socket):
            self._socket = sock
            _set_options(sock, self._address.congestion)

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._settle(str(reason))
            return
        self._limit_bytes = getattr(properties, "MaximumPacketSize", None)
        if self._filters:
            self._ask(client)
        else:
            self._settle("")

    def _ask(self, client: paho.Client) -> None:
        self._asked_s.append(time.monotonic())
        client.subscribe([(topic, 1) for topic in self._filters])

    def _subscribed(self, client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        rtt_s = time.monotonic() - self._asked_s[-1]
        self.rtt_s = rtt_s if self.rtt_s is None else min(self.rtt_s, rtt_s)
        refused = [
            f"{topic}: {reason}" for topic, reason in zip(self._filters, reasons, strict=False) if reason.is_failure
        ]
        if refused or len(self._asked_s) >= _PROBES:
            self._settle(", ".join(refused))
        else:  # once more, for the clock's sake: a busy machine makes single round trips long
            self._ask(client)

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if self._on_message is None or (message.retain and message.topic.endswith("/cmd")):
            return  # a command that the broker kept was meant for some earlier moment
        try:
            self._on_message(message.topic, bytes(message.payload))
        except Exception:  # a defect of ours, or bytes of a stranger: neither may end paho's thread
            log.exception("a message of %d bytes could not be taken", len(message.payload))

    def _published(self, _client: paho.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._early.add(mid)
        if mid in self._waiting:
            self._confirm(mid)

    def _confirm(self, mid: int) -> None:
        confirm = self._waiting.pop(mid, None)
        if confirm is not None:
            self._early.discard(mid)
            confirm()

    def _disconnected(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._settle(f"the broker hung up ({reason})")
        self.trouble = self.trouble or str(reason)
        self.ended.set()


def _set_options(sock: socket.socket, congestion: str) -> None:
    """Small messages leave at once, and what the path cannot take yet stays visible to us instead of in the kernel."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        not_sent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if not_sent is not None:
            sock.setsockopt(socket.IPPROTO_TCP, not_sent, _NOT_SENT_BYTES)
    if congestion:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        except (OSError, AttributeError) as error:
            log.warning("TCP congestion control %s is not to be had here: %s", congestion, error)

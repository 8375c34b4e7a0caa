"""Session: one MQTT connection from its connect to its end, a paho client with our socket options."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from edgesem.errors import LinkError, PacketError
from runtime.mqtt.address import Address
from runtime.mqtt.paho_client import PahoClient, fenced
from runtime.mqtt.round_trips import RoundTrips
from runtime.mqtt.tcp_socket import set_options, shut_down, unacked_bytes, wire_bytes
from runtime.mqtt.unconfirmed import SentMessage, Unconfirmed

log = logging.getLogger(__name__)

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
CONNECT_S = 10.0
"""The least time that a broker has to answer our CONNECT and SUBSCRIBE."""
DIAL_S = 20.0
"""Of the TCP and TLS handshakes."""

_ROUND_TRIPS = 10  # that the answers may take, where that is longer than CONNECT_S: messages take time on a thin link
_KEEP_ALIVE_S = 15
_CLOSE_S = 1.0
_CALLBACKS = (
    "on_connect", "on_subscribe", "on_unsubscribe", "on_message", "on_publish", "on_disconnect", "on_socket_open",
    "on_socket_close",
)  # fmt: skip
_PROBE_FILTER = "edgesem/v1/none"
_MOST_FILTERS = 8
"""Of one SUBSCRIBE: AWS IoT Core ends a connection that asks for more at a time."""
_MOST_IN_FLIGHT = 0xFFFF
_AROUND_BYTES = 16  # of a PUBLISH besides topic and payload, at most
_NO_REASON = "Unspecified error"  # paho's words where the broker has said nothing


class Session:
    """A paho client that is used once: paho would send again, after a reconnect, whatever old frames it still holds.

    `on_message(topic, payload)` is called on its thread; `will` is what the broker publishes for us once we are lost,
    retained with QoS 1 unless `plain_will`. Of several filters some may be refused; that is logged.
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
        plain_will: bool = False,
        keep_alive_s: int | None = None,
        dial_s: float = DIAL_S,
    ) -> None:
        self.most_qos = 2
        """The highest QoS that the broker takes."""
        self.retains = True
        """Whether the broker keeps retained messages."""
        self.retained_by_wildcard = False
        """Whether one was handed out to a filter with a wildcard: not all brokers do."""
        self.limit_bytes: int | None = None
        """The largest packet that the broker takes, if it has said so."""
        self.unconfirmed = Unconfirmed(address)
        self.began_s = time.monotonic()
        self.reached = False
        """Whether there was a TCP connection at all."""
        self.was_cut = False
        """Whether we have ended it ourselves."""
        self.ended = threading.Event()
        self.trouble = ""
        self._address, self._filters, self._on_message = address, filters, on_message
        self._settled = threading.Event()
        self._round_trips = RoundTrips()
        self._measuring: Callable[[float], None] | None = None
        self._ever = set(filters)
        """All filters that were asked for in this connection."""
        self._asked_for: dict[int, Sequence[str]] = {}
        """Filters of the first SUBSCRIBEs that are not answered, by message id."""
        self._refused: list[str] = []
        """Filters of the first SUBSCRIBEs that were refused."""
        self._left_lock = threading.Lock()
        self._left: set[int] = set()
        """Ids of the messages by which filters were taken away; the answers to others are round trips."""
        self._most_in_flight = _MOST_IN_FLIGHT
        self._socket: socket.socket | None = None
        self._wire_bytes: int | None = None
        self._keep_alive_s = keep_alive_s or _KEEP_ALIVE_S
        client = PahoClient(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=VERSIONS[version], reconnect_on_failure=False
        )
        client.connect_timeout = dial_s
        client.unacked_bytes = self.unacked_bytes
        client.max_inflight_messages_set(_MOST_IN_FLIGHT)  # paho would hold the rest back: `publish` refuses it
        client.username_pw_set(address.user, address.password)
        if tls is not None:
            client.tls_set_context(tls)
        if will is not None:
            client.will_set(*will, qos=0 if plain_will else 1, retain=not plain_will)
        client.on_connect = fenced(self._connected)
        client.on_subscribe = fenced(self._subscribed)
        client.on_unsubscribe = fenced(self._unsubscribed)
        client.on_message = fenced(self._message)
        client.on_publish = fenced(self._published)
        client.on_disconnect = fenced(self._disconnected)
        client.on_socket_open = fenced(self._opened)
        client.on_socket_close = fenced(self._closing)
        self._client = client

    @property
    def up(self) -> bool:
        """Whether the broker has taken us, and we have not lost it."""
        return self._client.is_connected() and not self.ended.is_set()

    def open(self) -> str:
        """Connect and subscribe; returns what went wrong, or nothing."""
        began_s = time.monotonic()
        try:
            self._client.connect(self._address.host, self._address.port, keepalive=self._keep_alive_s)
        except (OSError, ValueError) as error:
            self.ended.set()
            self.close()
            return str(error)
        reached_s = time.monotonic()
        patience_s = max(CONNECT_S, _ROUND_TRIPS * (reached_s - began_s))
        self.reached = True
        self._client.loop_start()
        while not self._settled.wait(max(0.0, reached_s + patience_s - time.monotonic())):
            # What is on the way may answer the dial in the broker's place: only its own answers show how far it is.
            longer_s = _ROUND_TRIPS * (self.rtt_s or 0.0)
            if longer_s <= patience_s:
                self._settle(f"no answer within {patience_s:.0f} s")
                break
            patience_s = longer_s
        if self.trouble:
            self.close()
        return self.trouble

    @property
    def running(self) -> bool:
        """Whether its network thread runs; a defect that ended that is in the log."""
        thread = getattr(self._client, "_thread", None)
        return thread is not None and thread.is_alive()

    def fail(self, trouble: str) -> None:
        """End it in place of its network thread, which is no more."""
        self.trouble = self.trouble or trouble
        self.ended.set()

    @property
    def rtt_s(self) -> float | None:
        """The shortest round trip to the broker so far, seconds; None before the first."""
        return self._round_trips.shortest_s

    def subscribe(self, topics: Sequence[str]) -> None:
        """Add filters to a connection that stands."""
        self._ever.update(topics)
        for some in _batches(topics):
            self._client.subscribe([(topic, min(1, self.most_qos)) for topic in some])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Take filters away from a connection that stands."""
        for some in _batches(topics):
            with self._left_lock:  # the answer may be here before the call returns
                _, mid = self._client.unsubscribe(list(some))
                if mid is not None:
                    self._left.add(mid)

    def measure_rtt(self, tell: Callable[[float], None]) -> None:
        """Measure a round trip of a small message; `tell` is called with its seconds, on the network thread."""
        if self._measuring is None:
            self._measuring = tell
            self._round_trips.asked()
            self._client.unsubscribe(_PROBE_FILTER)

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        confirm: Callable[[], None] | None,
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        """As `Connection.publish`."""
        size_bytes = len(topic.encode()) + len(payload) + _AROUND_BYTES
        if self.limit_bytes is not None and size_bytes > self.limit_bytes:
            raise PacketError(f"{len(payload)} bytes on {topic}: the broker takes {self.limit_bytes} at most")
        qos = min(qos, self.most_qos)
        if qos and len(self.unconfirmed) >= self._most_in_flight:
            raise LinkError(f"{self._address} takes {self._most_in_flight} messages at a time")
        info = self._client.publish(topic, payload, qos=qos, retain=retain and self.retains)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.unconfirmed.lost(size_bytes)
            raise LinkError(f"not connected to {self._address}: {info.rc.name}")
        self.unconfirmed.published(info.mid, SentMessage(topic, size_bytes, confirm, refuse))

    def unacked_bytes(self) -> int | None:
        """What the kernel has of ours that the broker's kernel has not acknowledged; None where it does not tell."""
        return unacked_bytes(self._socket)

    def wire_bytes(self) -> int | None:
        """What it has cost so far on the wire, in both directions; None where the kernel does not tell."""
        now_bytes = wire_bytes(self._socket)
        if now_bytes is not None:
            self._wire_bytes = max(now_bytes, self._wire_bytes or 0)
        return self._wire_bytes

    def hang_up(self) -> None:
        """Part from the broker in peace."""
        self._client.disconnect()
        if not self.ended.wait(_CLOSE_S):
            self.cut()

    def cut(self) -> None:
        """End the connection without a word: there may be nobody to hear one."""
        self.was_cut = True
        shut_down(self._socket)

    def close(self) -> None:
        """After the end: wait for paho's thread."""
        if not self.ended.is_set():
            self.hang_up()
        with contextlib.suppress(AttributeError):  # paho forgets its thread, when that ends, without a lock
            self._client.loop_stop()
        if self._socket is not None:  # if the thread has died by a defect, nobody else closes it
            with contextlib.suppress(OSError):
                self._socket.close()
        # The client and we hold each other; parted, its sockets are closed now and not when the interpreter looks for
        # circles, which in a quiet daemon may be many connections later.
        for name in _CALLBACKS:
            setattr(self._client, name, None)
        self._client.__dict__.pop("unacked_bytes", None)  # the same circle

    def _settle(self, trouble: str) -> None:
        if not self._settled.is_set():
            self.trouble = trouble
            self._settled.set()

    def _opened(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if isinstance(sock, socket.socket):
            self._socket = sock
            self._round_trips.asked()
            set_options(sock, self._address.congestion)

    def _closing(self, *_: Any) -> None:
        self.wire_bytes()  # the last moment at which the kernel can be asked

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._settle(str(reason))
            return
        self._round_trips.answered()
        self.limit_bytes = getattr(properties, "MaximumPacketSize", None)
        self.most_qos = getattr(properties, "MaximumQoS", 2)
        self.retains = bool(getattr(properties, "RetainAvailable", 1))
        if properties is not None:  # MQTT 5 only; without a word of the broker there is no limit
            self._most_in_flight = getattr(properties, "ReceiveMaximum", _MOST_IN_FLIGHT)
        if self._filters:
            self._round_trips.asked()
            for some in _batches(self._filters):
                _, mid = client.subscribe([(topic, min(1, self.most_qos)) for topic in some])
                if mid is not None:
                    self._asked_for[mid] = some
        else:
            self._settle("")

    def _subscribed(self, client: paho.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        filters = self._asked_for.pop(mid, None)
        first = filters is not None
        filters = filters or [""] * len(reasons)
        refused = [f"{topic}: {reason}" for topic, reason in zip(filters, reasons, strict=False) if reason.is_failure]
        if refused:
            log.warning("%s refuses what we subscribe to: %s", self._address, ", ".join(refused))
        if not first:
            return
        self._refused += refused
        if self._asked_for:
            return
        self._round_trips.answered()
        if self._refused and len(self._refused) == len(self._filters):
            self._settle(", ".join(self._refused))
        else:
            self._probe(client)

    def _unsubscribed(self, client: paho.Client, _data: Any, mid: int, _reasons: Any, _properties: Any) -> None:
        with self._left_lock:
            if mid in self._left:
                self._left.discard(mid)
                return
        rtt_s = self._round_trips.answered()
        if self._settled.is_set():
            tell, self._measuring = self._measuring, None
            if tell is not None:
                tell(rtt_s)
        else:
            self._probe(client)

    def _probe(self, client: paho.Client) -> None:
        """Measure one more round trip, or be ready.

        To leave a filter that we never had is a message that has no effect but its answer.
        """
        if not self._round_trips.probe():
            self._settle("")
            return
        self._round_trips.asked()
        client.unsubscribe(_PROBE_FILTER)

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        topic = message.topic  # raises for bytes that are not UTF-8
        if self._on_message is None or (message.retain and topic.endswith("/cmd")):
            return  # a command that the broker kept was meant for some earlier moment
        if message.retain and topic not in self._ever:
            self.retained_by_wildcard = True
        self._on_message(topic, bytes(message.payload))

    def _published(self, _client: paho.Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self.unconfirmed.answered(mid, str(reason) if reason is not None and reason.is_failure else "")

    def _disconnected(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._settle(f"the broker hung up ({reason})")
        said = "" if str(reason) == _NO_REASON else str(reason)
        self.trouble = self.trouble or said or "it broke off: the broker or the link is gone"
        self.ended.set()


def _batches(filters: Sequence[str]) -> list[Sequence[str]]:
    """The filters of each SUBSCRIBE."""
    return [filters[begin : begin + _MOST_FILTERS] for begin in range(0, len(filters), _MOST_FILTERS)]

"""Connection of a sender or a receiver to its broker, made again whenever it is lost, with typed errors.

MQTT 5 where the broker speaks it, otherwise 3.1.1. Nothing here queues: what is published is paho's business only until
it stands in the socket, so a sender publishes no more than its own window allows (see `runtime.sender.publisher`).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from edgesem.errors import EdgesemError, LinkError, UsageError
from runtime.mqtt.address import Address
from runtime.mqtt.credentials import with_local_login
from runtime.mqtt.explain import REPEAT_S, TroubleLog, explain
from runtime.mqtt.message_limit import MessageLimit
from runtime.mqtt.session import CONNECT_S, DIAL_S, VERSIONS, Session
from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_LOOK_S = 5.0
"""How often it looks whether the network thread runs; an ordinary end of a connection wakes it."""
_BRIEF_S = 5.0
"""With several addresses, a connection that ends sooner makes us wait longer for the next."""
_NEXT_S = 5.0
"""Of the TCP and TLS handshakes, where there is another address to try."""
_PLAIN_ONLY = ("Retain not supported", "QoS not supported")
_REFUSED_LOGIN = ("Bad user name or password", "Not authorized")


class Connection:
    """A connection to a broker that is made again, with jitter, whenever it is lost. Thread-safe.

    `on_message(topic, payload)` and `on_up()`, `on_down(reason)` are called on its threads; what they raise is logged.
    Entered, it connects, and raises LinkError if it cannot; with `retry` it returns at once and tries for as long as it
    is entered. `will` is the last will: what the broker publishes for us, retained, once the connection is lost.

    With several addresses, the nodes of one cluster of brokers, it begins at any of them, so that a fleet spreads over
    them, and goes on at another when one is lost or does not answer. `address` is the one that it is at, or tries.

    Passwords and certificates are read from their files for each connection, so that new ones hold from then on. Where
    a file cannot be read any more, what it held before is used.

    `keep_alive_s` is how long it may be silent: longer costs less, and a dead link is found out later.

    A broker that cuts the connection because of a large message without saying so is found out (`limit_bytes`).
    """

    def __init__(
        self,
        address: Address | Sequence[Address],
        *,
        name: str,
        subscribe: str | Sequence[str] | None = None,
        on_message: Callable[[str, bytes], None] | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[str], None] | None = None,
        will: tuple[str, bytes] | None = None,
        retry: bool = False,
        keep_alive_s: int | None = None,
    ) -> None:
        self._addresses = [address] if isinstance(address, Address) else list(address)
        if not self._addresses:
            raise UsageError("a connection needs the address of a broker")
        random.shuffle(self._addresses)
        self.address = self._addresses[0]
        self.version = ""
        """`5` or `3.1.1`, once connected."""
        self.rtt_s: float | None = None
        """The shortest time that a small message to the broker and its answer took, measured as we subscribed."""
        self.reconnects = 0
        self.trouble = ""
        """Why there is no connection, with the likely cause; empty while there is one."""
        self._name = f"edgesem-{name}-{secrets.token_hex(4)}"
        self._filters = dict.fromkeys([subscribe] if isinstance(subscribe, str) else subscribe or ())
        """In the order in which they were added."""
        self._filters_lock = threading.Lock()
        self._on_message = on_message
        self._on_up = on_up or (lambda: None)
        self._on_down = on_down or (lambda _reason: None)
        self._will = will
        self._retry = retry
        self._tls = [one.tls_context() for one in self._addresses]
        self._session: Session | None = None
        self._opening: Session | None = None
        """The session that is or was made last: messages may come before it is `_session`, and may be answered."""
        self._trouble_log, self._limited_log = TroubleLog(log), RateLimitedLog(log, REPEAT_S)
        self._plain_will, self._keep_alive_s = False, keep_alive_s
        self._wire_before_bytes = 0
        """What connections have cost that are no more."""
        self._limit = MessageLimit()
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"mqtt.{name}", daemon=True)

    def __enter__(self) -> Connection:
        if not self._retry:
            trouble = self._dial()
            if trouble:
                places = ", ".join(map(str, self._addresses))
                raise LinkError(f"no MQTT connection to {places}: {explain(self._login(), trouble)}")
            self._on_up()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        session = self._session
        if session is not None:
            session.hang_up()
        if self._keeper.ident is not None:
            self._keeper.join(CONNECT_S + DIAL_S)
        self._session = None

    @property
    def alive(self) -> bool:
        """Whether it is entered and keeps itself up; a defect that ended its thread is in the log."""
        return self._keeper.is_alive()

    @property
    def connected(self) -> bool:
        """Whether a message published now would leave at once."""
        session = self._session
        return session is not None and session.up

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        confirm: Callable[[], None] | None = None,
        refuse: Callable[[str], None] | None = None,
        early: bool = False,
    ) -> None:
        """Hand one message to the socket; `confirm` is called once the broker has confirmed it.

        early: also before `on_up`, for answers to what comes as soon as the broker has our subscriptions.

        `refuse` is called with the broker's reason if it does not take the message (MQTT 5); without it, that is
        logged. LinkError if there is no connection, or the broker takes no more at a time, so that paho never queues
        it; PacketError if it is larger than the broker takes, which would end the connection.
        """
        session = self._session or (self._opening if early else None)
        if session is None or not session.up:
            raise LinkError(f"not connected to {self.address}")
        session.limit_bytes = self._limit.of(session)
        session.publish(topic, payload, qos, retain, confirm, refuse)

    def subscribe(self, *topics: str) -> None:
        """Add filters: now if there is a connection, and with the others on each new one. Known ones are left out."""
        with self._filters_lock:
            new = [topic for topic in topics if topic not in self._filters]
            self._filters |= dict.fromkeys(new)
        session = self._session or self._opening
        if new and session is not None and session.up:
            session.subscribe(new)

    def unsubscribe(self, *topics: str) -> None:
        """Take filters away, now and for each new connection. Unknown ones are left out."""
        with self._filters_lock:
            known = [topic for topic in topics if topic in self._filters]
            for topic in known:
                del self._filters[topic]
        session = self._session or self._opening
        if known and session is not None and session.up:
            session.unsubscribe(known)

    def measure_rtt(self, tell: Callable[[float], None]) -> None:
        """Measure a round trip of a small message; `tell` is called with its seconds, on the network thread."""
        session = self._session
        if session is not None and session.up:
            session.measure_rtt(tell)

    @property
    def limit_bytes(self) -> int | None:
        """The largest message that the broker takes, with its topic; None if it has not said or shown one."""
        return self._limit.of(self._session)

    @property
    def retains(self) -> bool:
        """Whether the broker keeps retained messages, as far as it has said."""
        session = self._session
        return session is None or session.retains

    @property
    def retained_by_wildcard(self) -> bool:
        """Whether the broker has handed out a retained message to a filter with a wildcard, in this connection."""
        session = self._session or self._opening
        return session is not None and session.retained_by_wildcard

    def unacked_bytes(self) -> int | None:
        """What the kernel has of ours that the broker's kernel has not acknowledged; None where that is not known."""
        session = self._session
        return None if session is None else session.unacked_bytes()

    def wire_bytes(self) -> int | None:
        """What all our connections have cost on the wire, in both directions; None where the kernel does not tell."""
        session = self._session
        session_bytes = 0 if session is None else session.wire_bytes()
        return None if session_bytes is None else self._wire_before_bytes + session_bytes

    def reconnect(self, reason: str) -> None:
        """Give up the connection that is, and make a new one: it looks alive, but nothing comes through."""
        session = self._session
        if session is not None and session.up:
            log.warning("connecting to %s anew: %s", self.address, reason)
            session.cut()

    def _login(self) -> Address:
        """The address, with the login of an `edgesem broker` on this machine if it has none."""
        return with_local_login(self.address)

    def _read_files(self) -> None:
        """Read login and certificates anew: they may be others since the last connection."""
        place = self._addresses.index(self.address)
        try:
            self.address = self._addresses[place] = self.address.with_present_login()
            self._tls[place] = self.address.tls_context(asks=False)
        except EdgesemError as error:
            self._limited_log.warn("%s; what it held before is used", error)

    def _dial(self) -> str:
        """Connect and subscribe, at the next address if one does not answer; returns what went wrong, or nothing."""
        trouble = ""
        for tried in range(len(self._addresses)):
            if tried:
                log.debug("%s: %s; trying the next", self.address, trouble)
                self._go_on()
            trouble = self._dial_one()
            if not trouble or self._leaving.is_set():
                break
        return trouble

    @property
    def _client_id(self) -> str:
        """Our name at the present broker, another at each node: RabbitMQ keeps the queue of a name at the node where it
        was, and while that is down refuses it at all others."""
        return self._name if len(self._addresses) == 1 else f"{self._name}-{self._addresses.index(self.address)}"

    def _go_on(self) -> None:
        """Take the next address."""
        place = self._addresses.index(self.address)
        self.address = self._addresses[(place + 1) % len(self._addresses)]

    def _dial_one(self) -> str:
        trouble = ""
        # amqtt does not refuse MQTT 5, it falls silent: for it, and for any broker like it, time must run out.
        # What worked last is tried first, but another broker may be there now.
        known = [self.address.version] if self.address.version else [*filter(None, [self.version]), *VERSIONS]
        attempts = list(dict.fromkeys(known))
        if self._opening is not None:  # else they were read a moment ago
            self._read_files()
        tls = self._tls[self._addresses.index(self.address)]
        while attempts:
            version = attempts.pop(0)
            with self._filters_lock:
                filters = dict(self._filters)
            session = Session(
                self._login(),
                version,
                name=self._client_id,
                tls=tls,
                dial_s=DIAL_S if len(self._addresses) == 1 else _NEXT_S,
                filters=list(filters),
                on_message=self._on_message,
                will=self._will,
                plain_will=self._plain_will,
                keep_alive_s=self._keep_alive_s,
            )
            self._opening = session
            trouble = session.open()
            if not trouble:
                self.version, self._session = version, session
                self._plain_will &= not (session.retains and session.most_qos)  # else another broker is there by now
                with self._filters_lock:
                    late = [topic for topic in self._filters if topic not in filters]
                if late:  # added while we dialled
                    session.subscribe(late)
                self._tell_limits(session)
                if session.rtt_s is not None:
                    self.rtt_s = session.rtt_s if self.rtt_s is None else min(self.rtt_s, session.rtt_s)
                return ""
            self._wire_before_bytes += session.wire_bytes() or 0
            if trouble in _REFUSED_LOGIN or self._leaving.is_set() or not session.reached:
                break
            if any(words in trouble for words in _PLAIN_ONLY) and not self._plain_will:
                self._plain_will = True
                attempts.insert(0, version)
            log.debug("MQTT %s at %s did not work: %s", version, self.address, trouble)
        return trouble

    def _keep(self) -> None:
        """Wait for the end of a connection, make the next; until we leave."""
        wait_s = _SHORTEST_WAIT_S
        first = self._retry
        while not self._leaving.is_set():
            session = self._session
            if session is not None:
                while not session.ended.wait(_LOOK_S):
                    if not session.running and not session.ended.wait(_LOOK_S):
                        session.fail("the network thread has ended by a defect: see the log")
                session.close()
                self._session = None
                self._wire_before_bytes += session.wire_bytes() or 0
                self._call(lambda session=session: self._on_down(session.trouble))  # type: ignore[misc]
                if self._leaving.is_set():
                    return
                log.warning("lost %s: %s", self.address, session.trouble)
                self.trouble = session.trouble
                self._limit.learn(session, self.address)
                self._go_on()
                # One that is lost again and again is not made anew each moment.
                brief_s = _LONGEST_WAIT_S if len(self._addresses) == 1 else _BRIEF_S  # the next node is another one
                lasted = time.monotonic() - session.began_s > brief_s
                wait_s = _SHORTEST_WAIT_S if lasted else min(2 * wait_s, _LONGEST_WAIT_S)
            elif not first:
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            # A whole fleet loses its broker at the same moment, and must not come back at the same moment.
            if not first and self._leaving.wait(wait_s * random.uniform(0.5, 1.0)):
                return
            trouble = self._dial()
            if self._leaving.is_set():
                if self._session is not None:
                    self._session.close()
                return
            if trouble:
                self.trouble = trouble
                self.trouble = self._trouble_log.warn(self._login(), trouble)
            else:
                self.reconnects += not first
                self.trouble = ""
                self._trouble_log.clear()
                log.info("connected to %s, MQTT %s", self.address, self.version)
                self._call(self._on_up)
            first = False

    def _call(self, callback: Callable[[], None]) -> None:
        """Call one of the caller's functions: its defect must not end our thread, and with it reconnecting."""
        try:
            callback()
        except Exception:
            log.exception("a callback of the connection to %s has failed", self.address)

    def _tell_limits(self, session: Session) -> None:
        """Log what a broker cannot do, and what that costs."""
        if not session.retains:
            log.warning(
                "%s keeps no retained messages: receivers that start later learn of a stream within a minute",
                self.address,
            )
        if session.most_qos < 1:
            log.warning(
                "%s confirms nothing (QoS 0 only): what it loses is not sent again, but for promised frames",
                self.address,
            )

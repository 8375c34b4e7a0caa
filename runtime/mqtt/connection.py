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

from edgesem.errors import LinkError
from runtime.mqtt.address import Address
from runtime.mqtt.credentials import with_local_login
from runtime.mqtt.explain import TroubleLog, explain
from runtime.mqtt.session import CONNECT_S, DIAL_S, VERSIONS, Session

log = logging.getLogger(__name__)

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_LOOK_S = 1.0
_PLAIN_ONLY = ("Retain not supported", "QoS not supported")
_TOO_LARGE = ("Protocol error", "Packet too large", "protocol used by both")
"""How connections end when a message was too large: mosquitto's answer is none that paho knows."""
_LEAST_LIMIT_BYTES = 512
_BELIEVED_S = 3600.0
_REFUSED_LOGIN = ("Bad user name or password", "Not authorized")


class Connection:
    """A connection to a broker that is made again, with jitter, whenever it is lost. Thread-safe.

    `on_message(topic, payload)` and `on_up()`, `on_down(reason)` are called on its threads; what they raise is logged.
    Entered, it connects, and raises LinkError if it cannot; with `retry` it returns at once and tries for as long as it
    is entered. `will` is the last will: what the broker publishes for us, retained, once the connection is lost.

    `keep_alive_s` is how long it may be silent: longer costs less, and a dead link is found out later.

    A broker that cuts the connection because of a large message without saying so is found out: what was in flight,
    and larger than all that it has confirmed, is taken for too large for an hour (`limit_bytes`).
    """

    def __init__(
        self,
        address: Address,
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
        self.address = address
        self.version = ""
        """`5` or `3.1.1`, once connected."""
        self.rtt_s: float | None = None
        """The shortest time that a small message to the broker and its answer took, measured as we subscribed."""
        self.reconnects = 0
        self.trouble = ""
        """Why there is no connection, with the likely cause; empty while there is one."""
        self._name = f"edgesem-{name}-{secrets.token_hex(4)}"
        self._filters = [subscribe] if isinstance(subscribe, str) else list(subscribe or ())
        self._on_message = on_message
        self._on_up = on_up or (lambda: None)
        self._on_down = on_down or (lambda _reason: None)
        self._will = will
        self._retry = retry
        self._tls = address.tls_context()
        self._session: Session | None = None
        self._opening: Session | None = None
        """The session that is or was made last: messages may come before it is `_session`, and may be answered."""
        self._trouble_log = TroubleLog(log)
        self._plain_will, self._keep_alive_s = False, keep_alive_s
        self._wire_before_bytes = 0
        """What connections have cost that are no more."""
        self._largest_confirmed_bytes = 0
        self._cut_at_bytes = 0
        """Size of the largest message in flight when the last connection ended unasked; 0 if none was."""
        self._learnt: tuple[int, float] | None = None
        """The largest message that the broker seems to take, and until when we believe that."""
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"mqtt.{name}", daemon=True)

    def __enter__(self) -> Connection:
        if not self._retry:
            trouble = self._dial()
            if trouble:
                raise LinkError(f"no MQTT connection to {self.address}: {explain(self._login(), trouble)}")
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
        session.limit_bytes = self._limit_bytes_of(session)
        session.publish(topic, payload, qos, retain, confirm, refuse)

    def subscribe(self, *topics: str) -> None:
        """Add filters: now if there is a connection, and with the others on each new one. Known ones are left out."""
        new = [topic for topic in topics if topic not in self._filters]
        self._filters += new
        session = self._session or self._opening
        if new and session is not None and session.up:
            session.subscribe(new)

    def measure_rtt(self, tell: Callable[[float], None]) -> None:
        """Measure a round trip of a small message; `tell` is called with its seconds, on the network thread."""
        session = self._session
        if session is not None and session.up:
            session.measure_rtt(tell)

    @property
    def limit_bytes(self) -> int | None:
        """The largest message that the broker takes, with its topic; None if it has not said or shown one."""
        return self._limit_bytes_of(self._session)

    def _limit_bytes_of(self, session: Session | None) -> int | None:
        said = None if session is None else session.limit_bytes
        if self._learnt is None or time.monotonic() > self._learnt[1]:
            return said
        return self._learnt[0] if said is None else min(said, self._learnt[0])

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

    def _dial(self) -> str:
        """Connect and subscribe; returns what went wrong, or nothing."""
        trouble = ""
        # amqtt does not refuse MQTT 5, it falls silent: for it, and for any broker like it, time must run out.
        # What worked last is tried first, but another broker may be there now.
        known = [self.address.version] if self.address.version else [*filter(None, [self.version]), *VERSIONS]
        attempts = list(dict.fromkeys(known))
        while attempts:
            version = attempts.pop(0)
            session = Session(
                self._login(),
                version,
                name=self._name,
                tls=self._tls,
                filters=self._filters,
                on_message=self._on_message,
                will=self._will,
                plain_will=self._plain_will,
                keep_alive_s=self._keep_alive_s,
            )
            self._opening = session
            trouble = session.open()
            if not trouble:
                self.version, self._session = version, session
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
                self._learn_limit(session)
                # One that is lost again and again is not made anew each moment.
                lasted = time.monotonic() - session.began_s > _LONGEST_WAIT_S
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

    def _learn_limit(self, session: Session) -> None:
        """Look at how a connection ended: a broker may take no message as large as those that were in flight."""
        self._largest_confirmed_bytes = max(self._largest_confirmed_bytes, session.unconfirmed.largest_confirmed_bytes)
        size_bytes = session.unconfirmed.largest_bytes
        short = time.monotonic() - session.began_s < _LONGEST_WAIT_S
        certain = any(words in session.trouble for words in _TOO_LARGE)
        suspicious = size_bytes > self._largest_confirmed_bytes and (certain or short) and not session.was_cut
        if suspicious and (certain or self._cut_at_bytes):
            limit_bytes = max(self._largest_confirmed_bytes, min(size_bytes, self._cut_at_bytes or size_bytes) // 2)
            self._learnt = (max(_LEAST_LIMIT_BYTES, limit_bytes), time.monotonic() + _BELIEVED_S)
            log.warning(
                "%s ends the connection (%s) at a message of %d bytes: larger ones than %d bytes are not sent",
                self.address,
                session.trouble,
                size_bytes,
                self._learnt[0],
            )
        self._cut_at_bytes = size_bytes if suspicious else 0

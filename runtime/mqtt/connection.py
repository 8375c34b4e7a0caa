"""Connection of a sender or a receiver to its broker, made again whenever it is lost, with typed errors.

MQTT 5 where the broker speaks it, otherwise 3.1.1. Nothing here queues: what is published is paho's business only until
it stands in the socket, so a sender publishes no more than its own window allows (see `runtime.sender.publisher`).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable, Sequence

from edgesem.errors import LinkError
from runtime.mqtt.address import Address
from runtime.mqtt.credentials import with_local_login
from runtime.mqtt.explain import TroubleLog, explain
from runtime.mqtt.session import CONNECT_S, DIAL_S, VERSIONS, Session

log = logging.getLogger(__name__)

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_REFUSED_LOGIN = ("Bad user name or password", "Not authorized")


class Connection:
    """A connection to a broker that is made again, with jitter, whenever it is lost. Thread-safe.

    `on_message(topic, payload)` and `on_up()`, `on_down(reason)` are called on its threads. Entered, it connects, and
    raises LinkError if it cannot; with `retry` it returns at once and tries for as long as it is entered. `will` is
    the last will: what the broker publishes for us, retained, once the connection is lost.
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
        self._trouble_log = TroubleLog(log)
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
    ) -> None:
        """Hand one message to the socket; `confirm` is called once the broker has confirmed it.

        LinkError if there is no connection, so that paho never queues it; PacketError if it is larger than the broker
        takes, which would end the connection.
        """
        session = self._session
        if session is None or not session.up:
            raise LinkError(f"not connected to {self.address}")
        session.publish(topic, payload, qos, retain, confirm)

    def unacked_bytes(self) -> int | None:
        """What the kernel has of ours that the broker's kernel has not acknowledged; None where that is not known."""
        session = self._session
        return None if session is None else session.unacked_bytes()

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
        known = self.address.version or self.version
        for version in [known] if known else list(VERSIONS):
            session = Session(
                self._login(),
                version,
                name=self._name,
                tls=self._tls,
                filters=self._filters,
                on_message=self._on_message,
                will=self._will,
            )
            trouble = session.open()
            if not trouble:
                self.version, self._session = version, session
                if session.rtt_s is not None:
                    self.rtt_s = session.rtt_s if self.rtt_s is None else min(self.rtt_s, session.rtt_s)
                return ""
            if trouble in _REFUSED_LOGIN or self._leaving.is_set():
                break
            log.debug("MQTT %s at %s did not work: %s", version, self.address, trouble)
        return trouble

    def _keep(self) -> None:
        """Wait for the end of a connection, make the next; until we leave."""
        wait_s = _SHORTEST_WAIT_S
        first = self._retry
        while not self._leaving.is_set():
            session = self._session
            if session is not None:
                session.ended.wait()
                session.close()
                self._session = None
                self._on_down(session.trouble)
                if self._leaving.is_set():
                    return
                log.warning("lost %s: %s", self.address, session.trouble)
                self.trouble = session.trouble
                wait_s = _SHORTEST_WAIT_S
            elif not first:
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            # A whole fleet loses its broker at the same moment, and must not come back at the same moment.
            if not first and self._leaving.wait(wait_s * random.uniform(0.5, 1.0)):
                return
            trouble = self._dial()
            if trouble:
                self.trouble = trouble
                self.trouble = self._trouble_log.warn(self._login(), trouble)
            else:
                self.reconnects += not first
                self.trouble = ""
                self._trouble_log.clear()
                log.info("connected to %s, MQTT %s", self.address, self.version)
                self._on_up()
            first = False

"""Client of the MQTT library paho as we need it: patient on thin links, and what is published is written at once.

Callbacks cannot end its thread.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_LOOKS, _SHORTEST_LOOK_S, _LONGEST_LOOK_S = 8, 0.5, 5.0
"""How often within a keep-alive the network thread looks whether the connection must be kept alive."""
_JOIN_S = 5.0


class PahoClient(paho.Client):
    """A client that takes progress of its own bytes for a sign of life, with a network thread of its own.

    paho gives up if nothing comes in for two keep-alives. On a thin link a large message takes longer, and the answer
    to a ping stands behind it.

    paho's own thread does all writing: whoever publishes wakes it. Here the thread that publishes writes, and `start`
    begins one for what comes in, for what the socket did not take, and for what callbacks publish. TLS sockets are for
    one thread at a time, so there it writes all. `stop` frees what it took.
    """

    unacked_bytes: Callable[[], int | None] = staticmethod(lambda: None)
    on_answer: Callable[[int, str], None] = staticmethod(lambda mid, refused: None)
    """Called with a message's id, and why the broker refuses it, or nothing. Not for QoS 0, unlike paho's
    `on_publish`, which costs more than such a message."""
    _unacked_before: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_lock = threading.Lock()
        self._network: threading.Thread | None = None
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def tls_set_context(self, context: ssl.SSLContext | None = None) -> None:
        """As paho's; from then on the network thread writes all."""
        super().tls_set_context(context)
        self.on_socket_register_write = lambda *_: self._wake()

    def start(self) -> None:
        """Start the network thread, once connected; it ends with the connection."""
        self._network = threading.Thread(target=self._run, name="mqtt.network", daemon=True)
        self._network.start()

    def stop(self) -> None:
        """Wait for the network thread, after the connection's end."""
        self._wake()
        if self._network is not None and self._network is not threading.current_thread():
            self._network.join(_JOIN_S)
        self._woken.close()
        self._waker.close()

    @property
    def running(self) -> bool:
        """Whether the network thread runs."""
        return self._network is not None and self._network.is_alive()

    def _run(self) -> None:
        found = MQTTErrorCode.MQTT_ERR_SUCCESS
        while found == MQTTErrorCode.MQTT_ERR_SUCCESS and (sock := self.socket()) is not None:
            look_s = min(_LONGEST_LOOK_S, max(_SHORTEST_LOOK_S, self.keepalive / _LOOKS))
            unread = sock.pending() if isinstance(sock, ssl.SSLSocket) else 0  # TLS has it, and select does not see it
            try:
                writing = [sock] if self.want_write() else []
                readable, writable, _ = select.select([sock, self._woken], writing, [], 0 if unread else look_s)
            except (OSError, ValueError):  # another thread has written, found the connection lost, and closed it
                break
            if self._woken in readable:
                with contextlib.suppress(OSError):
                    self._woken.recv(4096)
            if sock in readable or unread:
                found = self.loop_read()
            if found == MQTTErrorCode.MQTT_ERR_SUCCESS and (writable or self.want_write()):
                found = self.loop_write()
            if found == MQTTErrorCode.MQTT_ERR_SUCCESS:
                found = self.loop_misc()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is woken already, or is no more
            self._waker.send(b"0")

    def _packet_write(self) -> MQTTErrorCode:
        """Write what is queued, one thread at a time: what the socket takes in parts stays together.

        Nobody waits for another thread here: what that one has not seen, the network thread writes.
        """
        if not self._write_lock.acquire(blocking=False):
            self._wake()
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        try:
            written = super()._packet_write()
        finally:
            self._write_lock.release()
        if written == MQTTErrorCode.MQTT_ERR_AGAIN and self._network is not threading.current_thread():
            self._wake()
        return written

    def _do_on_publish(self, mid: int, reason_code: ReasonCode, properties: Properties) -> MQTTErrorCode:
        self.on_answer(mid, str(reason_code) if reason_code.is_failure else "")
        return super()._do_on_publish(mid, reason_code, properties)

    def _check_keepalive(self) -> None:
        unacked_bytes = self.unacked_bytes() or 0
        if unacked_bytes < self._unacked_before:
            with self._msgtime_mutex:
                self._last_bytes_received = time.monotonic()
        self._unacked_before = unacked_bytes
        super()._check_keepalive()


def fenced(callback: Callable[..., None]) -> Callable[..., None]:
    """A callback of paho's whose errors go to the log: a defect of ours, or bytes of a stranger, must not end its
    thread."""
    limited_log = RateLimitedLog(log)

    @wraps(callback)
    def fence(*given: Any) -> None:
        try:
            callback(*given)
        except Exception as error:
            limited_log.warn("a message of the broker could not be taken: %r", error)
            log.debug("a callback has failed", exc_info=True)

    return fence

"""Home Assistant: how streams show up there as cameras (MQTT discovery), and when they are available."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING

from edgesem.errors import EdgesemError
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics

if TYPE_CHECKING:
    from runtime.receiver.stream_receiver import StreamReceiver

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"


class HomeAssistant:
    """Announcements to Home Assistant. Thread-safe.

    Set `receiver` before the first stream. Home Assistant forgets what it was told when it starts anew, and the broker
    may forget it too: each stream is announced again on each connection, and when `{prefix}/status` says `online`.
    """

    def __init__(self, prefix: str, about: str) -> None:
        self.receiver: StreamReceiver | None = None
        self.prefix = prefix
        name = blake2b(f"{socket.gethostname()}\0{about}".encode(), digest_size=8).hexdigest()
        self.topic = f"{prefix}/edgesem/{name}/availability"
        """Whether this receiver runs; also the topic of its last will."""
        self._lock = threading.Lock()
        self._streams: dict[str, Topics] = {}
        self._is_online = False
        """Whether it was said on this connection that this receiver runs."""
        self._told: dict[str, bool] = {}
        """What was said of each stream's availability on this connection; a stream that is not here is announced."""
        self._limited_log = RateLimitedLog(log)

    def add(self, stream: str, topics: Topics) -> None:
        """A stream has a picture: announce it, unless it was."""
        if stream not in self._streams:
            with self._lock:
                self._streams[stream] = topics
            self.refresh()

    def remove(self, stream: str) -> None:
        """A stream is not received any more."""
        with self._lock:
            topics, told = self._streams.pop(stream, None), self._told.pop(stream, None)
        if topics is not None and told:
            self._publish(availability_topic(topics), OFFLINE)

    def announce_again(self, payload: bytes = ONLINE) -> None:
        """Home Assistant has started, or the broker is another: all is said again at the next refresh."""
        if payload == ONLINE:
            with self._lock:
                self._is_online = False
                self._told.clear()

    def refresh(self) -> None:
        """Say what has changed since the last call; to be called about each second."""
        receiver = self.receiver
        if receiver is None or not receiver.connection.connected:
            return
        with self._lock:
            streams = list(self._streams.items())
            known, self._is_online = self._is_online, True
        if not known and not self._publish(self.topic, ONLINE):
            self._is_online = False
            return
        for stream, topics in streams:
            available = self._is_available(stream)
            told = self._told.get(stream)
            if told is None and not self._publish(*discovery(topics, self.prefix, self.topic)):
                return
            if told is not available:
                if not self._publish(availability_topic(topics), ONLINE if available else OFFLINE):
                    return
                with self._lock:
                    if stream in self._streams:
                        self._told[stream] = available

    def close(self) -> None:
        """The receiver ends in order: no will speaks for it."""
        if self.receiver is not None and self.receiver.connection.connected:
            self._publish(self.topic, OFFLINE)

    def _is_available(self, name: str) -> bool:
        assert self.receiver is not None
        stream = self.receiver.streams.find(name)
        return stream is not None and not stream.absence

    def _publish(self, topic: str, payload: bytes) -> bool:
        assert self.receiver is not None
        try:
            self.receiver.connection.publish(topic, payload, retain=True)
        except EdgesemError as error:
            self._limited_log.warn("Home Assistant could not be told: %s", error)
            return False
        return True


def jpeg_topic(topics: Topics) -> str:
    """Topic of a stream's decoded pictures, as JPEG files."""
    return f"{topics.base}/jpeg"


def availability_topic(topics: Topics) -> str:
    """Topic on which a receiver says whether a stream is there: `online` or `offline`."""
    return f"{topics.base}/availability"


def discovery(topics: Topics, prefix: str, receiver_topic: str) -> tuple[str, bytes]:
    """Topic and payload of the retained message by which Home Assistant learns of a stream's pictures.

    The pictures stay on the stream's own topic: what is below the prefix is read whole at each start of Home Assistant.
    `receiver_topic` says whether the receiver runs that publishes them.
    """
    # Object ids may have letters, digits, - and _ only; the digest tells apart streams that look the same after that.
    digest = blake2b(topics.base.encode(), digest_size=4).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{topics.site}_{topics.device}_{topics.stream}")[:100]
    name = f"edgesem_{readable}_{digest}"
    config = {
        "name": topics.stream,
        "unique_id": name,
        "topic": jpeg_topic(topics),
        "availability": [{"topic": receiver_topic}, {"topic": availability_topic(topics)}],
        "availability_mode": "all",
        "device": {
            "identifiers": [f"edgesem_{topics.site}_{topics.device}"],
            "name": f"{topics.device} ({topics.site})",
            "manufacturer": "edgesem",
        },
        "origin": {"name": "edgesem"},
    }
    return f"{prefix}/camera/{name}/config", json.dumps(config).encode()

"""Home Assistant: how streams show up there as devices (MQTT discovery), when they are available, and what it asks."""

from __future__ import annotations

import json
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesem.errors import EdgesemError, UsageError
from runtime.daemon.homeassistant_device import HomeAssistantDevice, Offers, availability_topic
from runtime.daemon.homeassistant_figures import figures
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from runtime.web.overview import trouble_of

if TYPE_CHECKING:
    from runtime.receiver.stream import Stream
    from runtime.receiver.stream_receiver import StreamReceiver
    from runtime.web.gallery import Gallery

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
FIGURES_S = 10.0
"""Figures that change all the time are told so often; the others as soon as they change."""
_ALWAYS_CHANGE = frozenset({"captured", "age_s", "delay_s", "size_bytes", "quality_percent"})
_MOST_ASKED = 64
_MAX_ASK_BYTES = 4096
_VIEW_S = 5.0


class HomeAssistant:
    """Announcements to Home Assistant, figures, and requests from it. Thread-safe; `refresh` is for one thread.

    Set `receiver` before the first stream. Home Assistant forgets what it was told when it starts anew, and the broker
    may forget it too: each stream is announced again on each connection, and when `{prefix}/status` says `online`.
    `bundle` is the folder of the bundle whose labels watch words are looked up in. With `control` false, Home Assistant
    can look and not ask; `events` says whether the receiver gathers events.
    """

    def __init__(
        self, prefix: str, about: str, *, bundle: Path | None = None, control: bool = True, events: bool = False
    ) -> None:
        self.receiver: StreamReceiver | None = None
        self.gallery: Gallery | None = None
        self.prefix = prefix
        name = blake2b(f"{socket.gethostname()}\0{about}".encode(), digest_size=8).hexdigest()
        self._base = f"{prefix}/edgesem/{name}"
        self.topic = f"{self._base}/availability"
        """Whether this receiver runs; also the topic of its last will."""
        self._bundle, self._control, self._events = bundle, control, events
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._removed: deque[_Device] = deque()
        """Whose absence is not published yet."""
        self._is_online = False
        """Whether it was said on this connection that this receiver runs."""
        self._asked: deque[bytes] = deque(maxlen=_MOST_ASKED)
        self._limited_log = RateLimitedLog(log)

    @property
    def will(self) -> tuple[str, bytes]:
        """Topic and message, retained, of what the broker says once the connection of this receiver is lost."""
        return self.topic, OFFLINE

    def topics(self) -> dict[str, Callable[[bytes], None]]:
        """What to subscribe to, and what takes the messages; they are obeyed by the next `refresh`."""
        asks = {f"{self._base}/ask": self._asked.append} if self._control else {}
        return {f"{self.prefix}/status": self.announce_again, **asks}

    def add(self, stream: str, topics: Topics) -> None:
        """A stream has a picture: announce it, unless it was."""
        with self._lock:
            if stream not in self._devices:
                self._devices[stream] = _Device(HomeAssistantDevice(topics, self.prefix, self._base))

    def remove(self, stream: str) -> None:
        """A stream is not received any more, which the next `refresh` publishes: one may be announcing it now."""
        with self._lock:
            device = self._devices.pop(stream, None)
            if device is not None:
                self._removed.append(device)

    def announce_again(self, payload: bytes = ONLINE) -> None:
        """Home Assistant has started, or the broker is another: all is said again at the next refresh."""
        if payload == ONLINE:
            with self._lock:
                self._is_online = False
                for device in self._devices.values():
                    device.forget()

    def refresh(self) -> None:
        """Do what was asked, and say what has changed since the last call; to be called about each second."""
        receiver = self.receiver
        if receiver is None or not receiver.connection.connected:
            return
        while self._asked:
            self._obey(self._asked.popleft())
        with self._lock:
            devices, gone = list(self._devices.items()), list(self._removed)
            known, self._is_online = self._is_online, True
        if not known and not self._publish(self.topic, ONLINE):
            self._is_online = False
            return
        for removed in gone:
            if removed.available and not self._publish(availability_topic(removed.about.topics), OFFLINE):
                return
            self._removed.popleft()
        for name, device in devices:
            stream = receiver.streams.find(name)
            if stream is not None and not self._tell(device, stream):
                return

    def close(self) -> None:
        """The receiver ends in order: no will speaks for it."""
        if self.receiver is not None and self.receiver.connection.connected:
            self._publish(self.topic, OFFLINE)

    def _tell(self, device: _Device, stream: Stream) -> bool:
        """Say what has changed of a stream; whether the broker took it."""
        receiver = self.receiver
        assert receiver is not None
        if device.viewing:
            receiver.viewing.look(stream.name, _VIEW_S)
        state = stream.state
        known = device.offers
        device.offers = offers = Offers(
            max_steps=receiver.max_steps,
            data=known.data or (state is not None and state.data is not None),
            on_demand=known.on_demand or (state is not None and bool(state.live)),
            events=self._events,
            makes_events=known.makes_events or (state is not None and state.makes_events),
            watch=known.watch or (state is not None and state.watch is not None),
            control=self._control,
        )
        about, available = device.about, not stream.absence
        # What is said is noted first: `announce_again` may come while it is said, and then it is said again.
        if device.announced != offers:
            messages = [(*about.discovery(offers), True)]
            if not device.migrated:
                # A camera of 0.1 becomes one of the device's: Home Assistant keeps what its owner has made of it.
                migrating = about.old_topic, b'{"migrate_discovery": true}', False
                messages = [migrating, *messages, (about.old_topic, b"", True)]
            device.announced = offers
            if not all(self._publish(topic, payload, retain=retain) for topic, payload, retain in messages):
                device.announced = None
                return False
            device.migrated = True
        if device.available is not available:
            device.available = available
            if not self._publish(availability_topic(about.topics), ONLINE if available else OFFLINE):
                device.available = None
                return False
        picture = None if self.gallery is None else self.gallery.latest(stream.name)
        trouble = trouble_of(stream, receiver) or "none"
        told = figures(stream, picture, viewing=device.viewing, trouble=trouble[:255])
        now_s = time.monotonic()
        if device.is_due(told, now_s):
            device.told, device.told_s = told, now_s
            if not self._publish(about.figures_topic, json.dumps(told).encode()):
                device.told_s = -math.inf
                return False
        return True

    def _obey(self, payload: bytes) -> None:
        """Do what was asked; what cannot be done costs a log line."""
        try:
            if len(payload) > _MAX_ASK_BYTES:
                raise UsageError("it is too long")
            asked = json.loads(payload)
            with self._lock:
                found = [one for one in self._devices.items() if one[1].about.id == asked["id"]]
            stream = self.receiver.streams.find(found[0][0]) if found and self.receiver is not None else None
            if stream is None:
                raise UsageError("there is no such stream here")
            self._do(stream, found[0][1], asked)
        except EdgesemError as error:
            self._limited_log.warn("Home Assistant asked for what cannot be: %s", error)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            self._limited_log.warn("Home Assistant asked for what cannot be read")

    def _do(self, stream: Stream, device: _Device, asked: Mapping[str, Any]) -> None:
        receiver, what, value = self.receiver, asked["ask"], asked.get("value")
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        assert receiver is not None
        if what in ("snapshot", "key", "pause", "resume", "event"):
            receiver.command(stream, Command(what))
        elif what in ("view", "unview"):
            device.viewing = what == "view"
        elif what == "watch":
            words = tuple(filter(None, (text.strip() for text in str(value).split(";"))))
            receiver.command(stream, self._watch(words))
        elif what == "max_bytes":
            receiver.command(stream, Command("budget", max_bytes=int(number)))
        elif what == "max_rate_bps":
            receiver.command(stream, Command("budget", max_rate_bps=int(number)))
        elif what == "steps":
            if not 0 <= number <= receiver.max_steps:
                raise UsageError(f"steps must be 0 to {receiver.max_steps}")
            receiver.streams.set_synthesis(stream, steps=int(number))
        elif what == "realism":
            receiver.streams.set_synthesis(stream, realism=number)
        else:
            raise UsageError("nobody here knows how to do that")
        device.told_s = -math.inf  # what has changed is told now

    def _watch(self, words: tuple[str, ...]) -> Command:
        """The command to look for these words. Raises UsageError if they are no labels and cannot be encoded here."""
        from edgesem.bundle.bundle import Bundle
        from edgesem.semantics.embedding import Labels, to_bytes

        labels = Labels.of(Bundle.open(self._bundle)) if words else None
        vectors = tuple(to_bytes(labels.query(text).vector) for text in words) if labels else ()
        return Command("watch", queries=words, vectors=vectors)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = True) -> bool:
        assert self.receiver is not None
        try:
            self.receiver.connection.publish(topic, payload, retain=retain)
        except EdgesemError as error:
            self._limited_log.warn("Home Assistant could not be told: %s", error)
            return False
        return True


class _Device:
    """A stream's device, and what was said of it on this connection."""

    def __init__(self, about: HomeAssistantDevice) -> None:
        self.about = about
        self.offers = Offers()
        self.viewing, self.migrated = False, False
        self.forget()

    def forget(self) -> None:
        """Nothing was said yet."""
        self.announced: Offers | None = None
        self.available: bool | None = None
        self.told: dict[str, Any] = {}
        self.told_s = -math.inf

    def is_due(self, figures: dict[str, Any], now_s: float) -> bool:
        """Whether figures are to be told now."""
        if now_s - self.told_s >= FIGURES_S:
            return True
        keys = (figures.keys() | self.told.keys()) - _ALWAYS_CHANGE
        return any(figures.get(key) != self.told.get(key) for key in keys)

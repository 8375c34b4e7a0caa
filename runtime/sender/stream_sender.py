"""A sender of one stream, whole: codec, sender, connection, and what it says of itself.

with Transmission(Address("127.0.0.1", 1883), "home/gate/main", fps=2) as transmission:
    for picture in my_camera():  # uint8 [H, W, 3], RGB
        transmission.offer(picture)  # returns at once; the newest wins
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.codec import Codec
from edgesem.errors import LinkError, UsageError
from edgesem.packet.keys import Identity
from edgesem.packet.seal import Seal, new_salt
from runtime.capture.frame import MIN_SIDE, Frame
from runtime.congestion.control import Control
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.birth import Birth
from runtime.protocol.clock import clock_ms
from runtime.protocol.state import State
from runtime.protocol.topics import Topics, stream_folder
from runtime.sender.frame_slot import PROMISED_BYTES
from runtime.sender.sender import Sender
from runtime.sender.spool import Spool

STATE_S = 10.0
_GOODBYE_S = 1.0
_SPOOL_BYTES = 256 * 1024 * 1024


class StreamSender:
    """Sends what is offered until it is left, at the rate that the link bears; a lost link is taken up again.

    `stream` is `site/device/stream`. In `folder` are promised frames, the device's own key and the number of its
    starts: without it nothing can be promised or sealed, and no birth is said. `key` seals the stream. `sender` has all
    else: `sender.state()`, and what it does when it is asked. `more` goes to `Sender`.
    """

    def __init__(
        self,
        address: Address,
        stream: str | Topics,
        *,
        fps: float = 1.0,
        codec: Codec | None = None,
        max_bytes: int = 30_000,
        folder: Path | None = None,
        spool_bytes: int = _SPOOL_BYTES,
        identity: Identity | None = None,
        key: bytes | None = None,
        size: tuple[int, int] = (0, 0),
        tell: Callable[..., None] = lambda **_: None,
        **more: Any,
    ) -> None:
        import edgesem

        self.topics = topics = stream if isinstance(stream, Topics) else Topics.named(stream)
        if key is not None and folder is None:
            raise UsageError("a sealed stream needs a folder, in which its starts are counted: name one")
        self.codec = edgesem.load() if codec is None else codec
        self._identity = identity
        if identity is None and folder is not None:
            self._identity = Identity.open(folder / "identity.key")
        self._fps, self._size, self._tell, self._salt, self._key = fps, size, tell, new_salt(), key
        self._spool: Spool | None = None
        if folder is not None:
            path = stream_folder(folder / "spool", topics) / "promised.sqlite"
            self._spool = Spool(path, max_bytes=spool_bytes)
        self._told_s = float("-inf")
        self._lock = threading.Lock()
        self._begun = contextlib.ExitStack()
        self.sender = Sender(
            codec=self.codec,
            topics=topics,
            control=Control(
                interval_s=1 / fps, max_bytes=max_bytes, unacked_bytes=lambda: self.connection.unacked_bytes()
            ),
            publish=lambda topic, payload, confirm: self.connection.publish(topic, payload, confirm=confirm),
            tell=tell,
            spool=self._spool,
            seal=None if key is None else Seal(key, stream=topics.base, salt=self._salt),
            stuck=lambda reason: self.connection.reconnect(reason),
            **more,
        )
        gone = State(up=False, epoch=self.sender.epoch, time_ms=time.time_ns() // 1_000_000)
        self.connection = Connection(
            address,
            name="sender",
            subscribe=(topics.ack, topics.cmd),
            on_message=self.sender.on_message,
            on_up=self._up,
            on_down=lambda _: self.sender.disconnected(),
            will=(topics.state, gone.to_bytes()),
            patient=True,
        )

    def __enter__(self) -> StreamSender:
        # Loads the networks: the first frame shall not wait for that.
        self.codec.pack(self.codec.analyze(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)), quality=0)
        with contextlib.ExitStack() as begun:  # what began ends again, if the rest cannot begin
            begun.callback(self.close)
            begun.enter_context(self.sender)
            begun.enter_context(self.connection)
            self._begun = begun.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._say_goodbye()
        self._begun.close()

    def close(self) -> None:
        """Leave the spool whole; for a transmission that was never entered."""
        if self._spool is not None:
            self._spool.close()

    def offer(self, picture: NDArray[np.uint8], name: str = "") -> None:
        """Show it the newest picture, uint8 [H, W, 3], RGB; what was offered before and not taken is forgotten."""
        self.sender.offer(Frame(picture, name, clock_ms()))
        self.tell_state(every_s=STATE_S)

    def promise(self, picture: NDArray[np.uint8], name: str = "", *, max_bytes: int = PROMISED_BYTES) -> None:
        """Have this picture delivered, however long it takes: it stays in the folder until a receiver keeps it."""
        self.sender.promise(Frame(picture, name, clock_ms()), max_bytes)

    def tell_state(self, *, every_s: float = 0.0) -> None:
        """Publish how it goes, unless that was done in the last `every_s`."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._told_s + every_s:
                return
            self._told_s = now_s
        state = self.sender.state()
        self._tell(event="state", **state.as_dict())
        with contextlib.suppress(LinkError):
            self.connection.publish(self.topics.state, state.to_bytes(), qos=0, retain=True)

    def _up(self) -> None:
        """On each new connection: say who we are, before anything else."""
        with contextlib.suppress(LinkError):  # lost again already; the next connection says it
            if self._identity is not None:
                birth = Birth(
                    bundle_id=self.codec.bundle.id,
                    bundle_digest=self.codec.bundle.digest[:64],
                    width=self._size[0],
                    height=self._size[1],
                    fps=self._fps,
                    epoch=self.sender.epoch,
                    salt=self._salt,
                    time_ms=time.time_ns() // 1_000_000,
                    sealed=self._key is not None,
                    program="edgesem",
                )
                data = birth.to_bytes(self._identity, base=self.topics.base)
                self.connection.publish(self.topics.birth, data, retain=True)
            self.sender.connected(self.connection.rtt_s)
            self.tell_state()

    def _say_goodbye(self) -> None:
        """The state says that we went in peace; promised frames stay on the disk."""
        told = threading.Event()
        state = replace(self.sender.state(), up=False)
        with contextlib.suppress(LinkError):
            self.connection.publish(self.topics.state, state.to_bytes(), retain=True, confirm=told.set)
            told.wait(_GOODBYE_S)

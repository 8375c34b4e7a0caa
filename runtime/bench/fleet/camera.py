"""Simulated camera: one device with a connection of its own, which follows the protocol as a sender does.

It publishes birth, state and frames, takes acknowledgements, refers to frames that receivers hold, keeps promised
frames until a receiver does, and comes back when its broker is lost. It captures nothing and controls no rate.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgesem.errors import PacketError
from edgesem.packet.keys import Identity
from edgesem.packet.seal import SALT_BYTES
from edgesem.packet.side_information import Reference
from runtime.bench.fleet.recorded import Stamper, Step
from runtime.mqtt.address import Address
from runtime.mqtt.session import VERSIONS
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.clock import unix_ms
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.sender.references import References

BIRTH_S, STATE_S = 60.0, 10.0
_RESEND_S, _LAST_RESEND_S = 10.0, 600.0
"""A promised frame is sent again after so long, and then after twice as long each time."""
_KEEP_ALIVE_S = 15


class Camera:
    """One camera. Not thread-safe: all of it is for the thread that serves its socket (`client.loop_read`)."""

    def __init__(
        self,
        topics: Topics,
        addresses: Sequence[Address],
        version: str,
        stamper: Stamper,
        *,
        fps: float,
        promise_every: int,
        clock: Callable[[], float],
    ) -> None:
        self.sent = self.promised = self.kept = self.acked = self.lost_connections = 0
        self.inter_frames = self.frame_bytes = 0
        self.waiting: dict[int, tuple[bytes, float, float]] = {}
        """Promised frames that no receiver keeps yet, by number; when each is sent again, and after how long then."""
        self._topics, self._addresses, self._version, self._stamper = topics, list(addresses), version, stamper
        self._fps, self._promise_every, self._clock = fps, promise_every, clock
        self._which = random.randrange(1 << 16)
        self._epoch, self._salt = random.randrange(1 << 16), secrets.token_bytes(SALT_BYTES)
        self._references = References(lambda *_: None, epoch=self._epoch)
        """Which frames receivers hold; in place of a latent, each has its step of the recorded sequences."""
        self._identity = Identity(secrets.token_bytes(32))
        self._started_ms = unix_ms()
        self._place = random.randrange(len(self._addresses))
        self.client: paho.Client
        self.up = False

    def connect(self) -> None:
        """Connect anew, at the next address. OSError if nobody listens there."""
        self._place = (self._place + 1) % len(self._addresses)
        address = self._addresses[self._place]
        name = f"edgesem-bench-{self._topics.device}-{secrets.token_hex(4)}"
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=VERSIONS[self._version], reconnect_on_failure=False
        )
        client.username_pw_set(address.user, address.password)
        context = address.tls_context()
        if context is not None:
            client.tls_set_context(context)
        gone = State(up=False, epoch=self._epoch, time_ms=self._started_ms)
        client.will_set(self._topics.state, gone.to_bytes(), qos=1, retain=True)
        client.on_connect, client.on_message, client.on_disconnect = self._connected, self._message, self._gone
        self.client = client
        client.connect(address.host, address.port, keepalive=_KEEP_ALIVE_S)

    def film(self) -> None:
        """Publish the next frame. One that falls due without a connection is left out, but a promised one is kept."""
        promised = bool(self._promise_every) and self.sent % self._promise_every == 0
        if self.up or promised:
            self._send(promised)

    def _send(self, promised: bool) -> None:
        frame = self.sent
        step, reference = self._choose(promised)
        packet = self._stamper.packet(step, epoch=self._epoch, frame=frame, promised=promised, reference=reference)
        payload = packet.to_bytes()
        self.sent += 1
        self.frame_bytes += len(payload)
        if promised:
            self.promised += 1
            self.waiting[frame] = payload, self._clock() + _RESEND_S, 2 * _RESEND_S
        else:
            self.inter_frames += reference is not None
            self._references.made(packet, step, None, self._clock())
        if self.up:
            self.client.publish(self._topics.layer(0), payload, qos=1)

    def _choose(self, promised: bool) -> tuple[Step, Reference | None]:
        """What to send next: the inter frame that is predicted from a frame that receivers hold whole, and the name of
        that frame; or a keyframe, as a promised frame is."""
        held = None if promised else self._references.choose(self._clock())
        step = None if held is None else held.latent()
        following = None if step is None else self._stamper.following(step)
        if held is None or following is None:
            return self._stamper.keyframe(self._which + self.sent), None
        return following, held.name

    def say_birth(self) -> None:
        """Publish the birth."""
        packet = self._stamper.first
        birth = Birth(
            bundle_id=packet.bundle_id,
            bundle_digest="",
            width=packet.width,
            height=packet.height,
            fps=self._fps,
            epoch=self._epoch,
            salt=self._salt,
            time_ms=unix_ms(),
            sealed=False,
            program="edgesem bench fleet",
            start=self._started_ms,
        )
        payload = birth.to_bytes(self._identity, base=self._topics.base)
        self._publish(self._topics.birth, payload, qos=1)

    def say_state(self) -> None:
        """Publish the state, and promised frames again that nobody has taken."""
        state = State(
            up=True,
            epoch=self._epoch,
            time_ms=unix_ms(),
            frames=self.sent,
            age_s=0.0 if self.acked else None,
            promised_waiting=len(self.waiting),
            reconnects=self.lost_connections,
        )
        self._publish(self._topics.state, state.to_bytes(), qos=0)
        self._send_again()

    def leave(self) -> None:
        """End as a sender does: with a last state, and without a trace at the broker."""
        for topic in (self._topics.birth, self._topics.state):
            self._publish(topic, b"", qos=1)
        self.client.disconnect()

    def _send_again(self) -> None:
        """Send the promised frames whose time has come."""
        now_s = self._clock()
        for frame, (payload, at_s, after_s) in list(self.waiting.items()):
            if self.up and at_s <= now_s:
                self.waiting[frame] = payload, now_s + after_s, min(2 * after_s, _LAST_RESEND_S)
                self.client.publish(self._topics.layer(0), payload, qos=1)

    def _publish(self, topic: str, payload: bytes, qos: int) -> None:
        if self.up:
            self.client.publish(topic, payload, qos=qos, retain=True)

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            return
        client.subscribe([(topic, 1) for topic in (self._topics.ack, self._topics.cmd, self._topics.birth)])
        self.up = True
        self.say_birth()
        self.say_state()
        self.waiting = {frame: (payload, 0.0, _RESEND_S) for frame, (payload, *_) in self.waiting.items()}
        self._send_again()

    def _gone(self, *_: Any) -> None:
        self.lost_connections += self.up
        self.up = False

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(PacketError):
            if message.topic == self._topics.ack:
                self._acknowledged(Ack.from_bytes(bytes(message.payload)))
            elif message.topic == self._topics.cmd and self._wants_keyframe(Command.from_bytes(bytes(message.payload))):
                self._send(promised=False)

    def _wants_keyframe(self, command: Command) -> bool:
        """Whether a command has a frame sent at once."""
        return command.kind == "key" and self._references.ask_for_key(self._clock())

    def _acknowledged(self, ack: Ack) -> None:
        self._references.acknowledged(ack, self._clock())
        if ack.epoch == self._epoch:
            self.acked += 1
            if ack.kept and self.waiting.pop(ack.frame, None) is not None:
                self.kept += 1

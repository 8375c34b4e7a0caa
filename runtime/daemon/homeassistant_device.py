"""A stream as a device of Home Assistant (MQTT discovery for devices, from its version 2024.11 on).

One retained message names the device and all its entities. Their values come in one JSON message, the figures; what is
asked of them goes to one topic of the receiver, as JSON too. Home Assistant fills in templates that it is given, so
nothing that a stranger chose (a stream's name) may stand in one: there the device's id stands for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import edgesem
from runtime.protocol.command import LARGEST_FRAME_BYTES, MAX_RATE_BPS, MIN_FRAME_BYTES
from runtime.protocol.state import LIVE
from runtime.protocol.topics import Topics

CAUSES = ("ask", "watch", "change", "gpio", "other")
"""Of events."""
EVENT_S = 30
"""How long the binary sensor of an event stays on."""
_LONGEST_TEXT = 255
_MAX_REALISM_STEP = 0.05
_DIAGNOSTIC = "diagnostic"
_CONFIG = "config"


@dataclass(frozen=True)
class Offers:
    """What there is to show and to ask of a stream, beside what every stream has."""

    max_steps: int = 0
    """Of the flow decoder."""
    data: bool = False
    """Whether its sender has a data budget."""
    on_demand: bool = False
    """Whether its sender sends pictures only while somebody watches."""
    events: bool = False
    """Whether this receiver gathers events."""
    makes_events: bool = False
    """Whether its sender can make some."""
    watch: bool = False
    """Whether its sender can look for something."""
    control: bool = True
    """Whether Home Assistant may ask for something."""


@dataclass(frozen=True)
class HomeAssistantDevice:
    """One stream as a device. `prefix` is that of the discovery topics, `base` the topic of the receiver below it."""

    topics: Topics
    prefix: str
    base: str

    @property
    def id(self) -> str:
        """Letters, digits, - and _; the digest tells apart streams that look the same after that."""
        digest = blake2b(self.topics.base.encode(), digest_size=4).hexdigest()
        named = f"{self.topics.site}_{self.topics.device}_{self.topics.stream}"
        return f"edgesem_{re.sub(r'[^A-Za-z0-9_-]+', '_', named)[:100]}_{digest}"

    @property
    def figures_topic(self) -> str:
        """Topic of the values of its entities."""
        return f"{self.base}/{self.id}"

    @property
    def old_topic(self) -> str:
        """Topic on which 0.1 announced the camera alone."""
        return f"{self.prefix}/camera/{self.id}/config"

    def discovery(self, offers: Offers) -> tuple[str, bytes]:
        """Topic and payload of the retained message by which Home Assistant learns of the device."""
        topics = self.topics
        named = topics.device if topics.stream == "main" else f"{topics.device} {topics.stream}"
        receiver = {"topic": f"{self.base}/availability"}
        config = {
            "device": {
                "identifiers": [self.id],
                "name": f"{named} ({topics.site})",
                "manufacturer": "edgesem",
                "model": "camera stream",
                "sw_version": edgesem.__version__,
            },
            "origin": {"name": "edgesem", "sw_version": edgesem.__version__},
            "availability": [receiver, {"topic": availability_topic(topics)}],
            "availability_mode": "all",
            "components": {
                key: {"unique_id": self.id if key == "camera" else f"{self.id}_{key}", **component}
                for key, component in self._components(offers, receiver).items()
            },
        }
        return f"{self.prefix}/device/{self.id}/config", json.dumps(config).encode()

    def _components(self, offers: Offers, receiver: dict[str, str]) -> dict[str, dict[str, Any]]:
        """The entities by name."""
        always = {"availability": [receiver]}  # there is something to tell of a stream that is gone, too
        parts: dict[str, dict[str, Any]] = {
            # The pictures stay on the stream's own topic.
            "camera": {"platform": "camera", "name": None, "topic": jpeg_topic(self.topics)},
            "online": always | self._binary("Online", "connectivity", "online"),
            "captured": always | self._sensor("Newest picture", "captured", device_class="timestamp"),
            "age": always | self._measured("Age of the newest picture", "age_s", "duration", "s"),
            "delay": self._measured("Delay", "delay_s", "duration", "s", precision=2),
            "capacity": self._measured("Link capacity", "capacity_kbps", "data_rate", "kbit/s"),
            "size": self._measured("Size of the newest picture", "size_bytes", "data_size", "B"),
            "quality": self._measured("Quality", "quality_percent", None, "%"),
            "queue": always | self._measured("Promised pictures waiting", "promised_waiting", None, None),
            "trouble": always | self._sensor("Trouble", "trouble", entity_category=_DIAGNOSTIC),
            "masked": self._binary("Privacy mask", None, "masked", entity_category=_DIAGNOSTIC),
        }
        if offers.data:
            parts |= {
                "data_left": self._measured("Data left", "data_left_bytes", "data_size", "B"),
                "data_spent": self._measured("Data spent", "data_spent_bytes", "data_size", "B"),
                "data_forecast": self._measured("Data forecast", "data_forecast_bytes", "data_size", "B"),
            }
        if offers.on_demand:
            parts["live"] = self._sensor("Live", "live", device_class="enum", options=list(LIVE))
        if offers.events:
            parts |= self._event_parts()
        return parts | (self._asked_parts(offers) if offers.control else {})

    def _event_parts(self) -> dict[str, dict[str, Any]]:
        """Entities of the messages on the stream's topic `event`."""
        topic = f"{self.topics.base}/event"
        begun = "{% if value_json.phase == 'begun' %}"
        kind = f"value_json.cause if value_json.cause in {list(CAUSES)} else 'other'"
        fields = ("id", "label", "time", "frames")
        told = ", ".join([f"'event_type': {kind}", *(f"'{name}': value_json.{name}" for name in fields)])
        return {
            "events": {
                "platform": "event",
                "name": "Event",
                "state_topic": topic,
                "event_types": list(CAUSES),
                "value_template": begun + "{{ {" + told + "} | tojson }}{% endif %}",
            },
            "event_label": {
                "platform": "sensor",
                "name": "Last event",
                "state_topic": topic,
                "value_template": f"{{{{ (value_json.label or value_json.cause)[:{_LONGEST_TEXT}] }}}}",
            },
            "event_now": {
                "platform": "binary_sensor",
                "name": "Event now",
                "state_topic": topic,
                "value_template": begun + "ON{% endif %}",
                "off_delay": EVENT_S,
            },
        }

    def _asked_parts(self, offers: Offers) -> dict[str, dict[str, Any]]:
        """Entities by which something is asked of sender or receiver."""
        parts: dict[str, dict[str, Any]] = {
            "snapshot": self._asks("button", "Snapshot", payload_press=self._ask("snapshot")),
            "key": self._asks("button", "Keyframe", payload_press=self._ask("key"), entity_category=_CONFIG),
            "paused": self._asks(
                "switch", "Pause", **self._switch("pause", "resume"), **self._state("paused", "ON", "OFF")
            ),
            "max_bytes": self._number(
                "Largest frame",
                "max_bytes",
                (MIN_FRAME_BYTES, LARGEST_FRAME_BYTES, 1),
                mode="box",
                device_class="data_size",
                unit_of_measurement="B",
            ),
            "max_rate_bps": self._number(
                "Rate limit",
                "max_rate_bps",
                (0, MAX_RATE_BPS, 1),
                mode="box",
                device_class="data_rate",
                unit_of_measurement="bit/s",
            ),
        }
        if offers.makes_events:
            parts["event"] = self._asks("button", "Make event", payload_press=self._ask("event"))
        if offers.watch:
            parts["watch"] = self._asks(
                "text",
                "Watch words",
                command_template=self._ask("watch", "{{ value | tojson }}"),
                max=_LONGEST_TEXT,
                entity_category=_CONFIG,
                **self._state("watch"),
            )
        if offers.on_demand:
            parts["viewing"] = self._asks(
                "switch", "Watch live", **self._switch("view", "unview"), **self._state("viewing", "ON", "OFF")
            )
        if offers.max_steps:
            parts["steps"] = self._number("Steps", "steps", (0, offers.max_steps, 1))
            parts["realism"] = self._number("Realism", "realism", (0, 1, _MAX_REALISM_STEP))
        return parts

    def _number(self, name: str, key: str, bounds: tuple[float, float, float], **more: Any) -> dict[str, Any]:
        """A number that can be set; its least, its most and the step between two."""
        least, most, step = bounds
        ask = self._ask(key, "{{ value }}")
        more |= {"min": least, "max": most, "step": step, "entity_category": _CONFIG}
        return self._asks("number", name, command_template=ask, **more, **self._state(key))

    def _ask(self, what: str, value: str | None = None) -> str:
        """Payload of a request; `value` is the template of its value."""
        rest = "" if value is None else f', "value": {value}'
        return f'{{"id": "{self.id}", "ask": "{what}"{rest}}}'

    def _asks(self, platform: str, name: str, **more: Any) -> dict[str, Any]:
        return {"platform": platform, "name": name, "command_topic": f"{self.base}/ask", **more}

    def _switch(self, on: str, off: str) -> dict[str, str]:
        return {"payload_on": self._ask(on), "payload_off": self._ask(off)}

    def _state(self, key: str, on: str = "", off: str = "") -> dict[str, str]:
        """Where the value of `key` is; on and off are what a switch has for it."""
        rest = {"state_on": on, "state_off": off} if on else {}
        return {"state_topic": self.figures_topic, "value_template": _template(key, on, off), **rest}

    def _sensor(self, name: str, key: str, **more: Any) -> dict[str, Any]:
        return {"platform": "sensor", "name": name, **self._state(key), **more}

    def _measured(
        self, name: str, key: str, device_class: str | None, unit: str | None, *, precision: int = 0
    ) -> dict[str, Any]:
        about = {"device_class": device_class, "unit_of_measurement": unit}
        known = {key: value for key, value in about.items() if value is not None}
        return self._sensor(name, key, state_class="measurement", suggested_display_precision=precision, **known)

    def _binary(self, name: str, device_class: str | None, key: str, **more: Any) -> dict[str, Any]:
        known = {} if device_class is None else {"device_class": device_class}
        state = {"state_topic": self.figures_topic, "value_template": _template(key, "ON", "OFF")}
        return {"platform": "binary_sensor", "name": name, **state, **known, **more}


def jpeg_topic(topics: Topics) -> str:
    """Topic of a stream's decoded pictures, as JPEG files."""
    return f"{topics.base}/jpeg"


def availability_topic(topics: Topics) -> str:
    """Topic on which a receiver says whether a stream is there: `online` or `offline`."""
    return f"{topics.base}/availability"


def _template(key: str, on: str, off: str) -> str:
    """Template of a value in the figures; Home Assistant takes None for "unknown"."""
    if on:
        return f"{{{{ '{on}' if value_json.{key} else '{off}' if value_json.{key} is defined else None }}}}"
    return f"{{{{ value_json.{key} | default(None) }}}}"

"""The core of Home Assistant itself: what it makes of the devices that it is told of."""

import json
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.mqtt.loopback_broker import find_tool
from runtime.protocol.command import Command
from runtime.protocol.state import DataUsage, State
from tests.support.homeassistant_client import served
from tests.support.publishing import DEADLINE_S, wait_for

CORE_PYTHON = os.environ.get("EDGESEM_HOMEASSISTANT")
"""A Python that has the package homeassistant."""


class Core:
    """Home Assistant's core as a process."""

    def __init__(self, address):
        script = Path(__file__).parents[2] / "support" / "homeassistant_core.py"
        self.process = subprocess.Popen(
            [CORE_PYTHON, str(script), str(address.port), address.user, address.password],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.complaints = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.complaints.extend(line for line in self.process.stderr if line.startswith("mqtt: "))

    def ask(self, service=None, **data):
        """Call a service, and return the states of all entities by their names."""
        request = {} if service is None else {"service": service, "data": data}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["error"] is None, answer["error"]
        self.images = answer["images"]
        return answer["states"]

    def until(self, entity, value):
        """Wait for the state of an entity."""
        return wait_for(lambda: (one := self.ask().get(entity)) and one["state"] == value and one)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not CORE_PYTHON, reason="EDGESEM_HOMEASSISTANT names no Python with the package homeassistant")
def test_the_core_of_home_assistant_makes_all_entities_and_their_requests_arrive(tmp_path):
    with served("--out", str(tmp_path)) as (broker, home, camera, daemon), Core(broker.address) as core:
        state = State(
            *(True, 1, 0),
            capacity_bps=64_000,
            data=DataUsage(30, 20, 40),
            live="idle",
            masked=True,
            interval_s=300.0,
            makes_events=True,
            watch="a dog",
            max_bytes=4000,
        )
        camera.connection.publish(camera.topics.state, state.to_bytes())
        core.until("sensor.gate_test_data_left", "20")
        states = core.until("sensor.gate_test_live", "idle") and core.ask()
        parts = json.loads(home.next("homeassistant/device/", lambda one: b"data_left" in one)[1])["components"]
        assert len([name for name in states if ".gate_test" in name]) == len(parts)
        expected = {"binary_sensor.gate_test_online": "on", "binary_sensor.gate_test_privacy_mask": "on"}
        expected |= {"sensor.gate_test_link_capacity": "64.0", "sensor.gate_test_trouble": "none"}
        expected |= {"switch.gate_test_pause": "off", "text.gate_test_watch_words": "a dog"}
        expected |= {"number.gate_test_largest_frame": "4000", "number.gate_test_rate_limit": "0"}
        assert {name: states[name]["state"] for name in expected} == expected
        assert core.images["camera.gate_test"] > 1000
        core.ask("button/press", entity_id="button.gate_test_snapshot")
        core.ask("switch/turn_on", entity_id="switch.gate_test_pause")
        core.ask("button/press", entity_id="button.gate_test_make_event")
        core.ask("text/set_value", entity_id="text.gate_test_watch_words", value="a person")
        core.ask("number/set_value", entity_id="number.gate_test_largest_frame", value=3000)
        kinds = {"snapshot", "pause", "watch", "event", "budget"}
        while kinds:
            kinds.discard(Command.from_bytes(camera.commands.get(timeout=DEADLINE_S)).kind)
        camera.connection.publish(camera.topics.state, replace(state, watch="a person", max_bytes=3000).to_bytes())
        core.until("text.gate_test_watch_words", "a person")
        core.until("number.gate_test_largest_frame", "3000")
        event = {"id": "5f3a9c01", "cause": "watch", "label": "a cat", "phase": "begun", "frames": 1, "time": "x"}
        camera.connection.publish(f"{camera.topics.base}/event", json.dumps(event).encode())
        core.until("binary_sensor.gate_test_event_now", "on")
        states = core.ask()
        assert states["sensor.gate_test_last_event"]["state"] == "a cat"
        assert states["event.gate_test_event"]["event_type"] == "watch"
        daemon.process.kill()
        core.until("binary_sensor.gate_test_online", "unavailable")
        assert core.ask()["camera.gate_test"]["state"] == "unavailable"
        assert core.complaints == []

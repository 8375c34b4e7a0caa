"""The core of Home Assistant with its MQTT integration, for a Python that has it (pip install homeassistant paho-mqtt).

python homeassistant_core.py PORT USER PASSWORD: reads requests from standard input, a line of JSON each, and answers
with all states: {"service": "switch/turn_on", "data": {...}}, or {} for the states alone.
"""

import asyncio
import contextlib
import json
import logging
import pathlib
import sys
import tempfile
from types import MappingProxyType

from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.components.camera import async_get_image
from homeassistant.exceptions import HomeAssistantError


async def main(port, user, password, folder):
    """Serve until standard input ends."""
    (pathlib.Path(folder) / "configuration.yaml").write_text("homeassistant:\n")
    hass = core.HomeAssistant(folder)
    hass.config.skip_pip = True
    hass.config.media_dirs = {}
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [], [])
    await hass.async_start()
    broker = {"broker": "127.0.0.1", "port": int(port), "username": user, "password": password}
    entry = config_entries.ConfigEntry(
        domain="mqtt",
        title="mqtt",
        version=1,
        minor_version=2,
        source="user",
        unique_id=None,
        options={},
        discovery_keys=MappingProxyType({}),
        subentries_data=None,
        data=broker,
    )
    await hass.config_entries.async_add(entry)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        error = None
        if "service" in request:
            try:
                await hass.services.async_call(*request["service"].split("/"), request["data"], blocking=True)
            except Exception as failed:
                error = repr(failed)
        states = {one.entity_id: {"state": one.state, **one.attributes} for one in hass.states.async_all()}
        images = {}
        for name in states:
            if name.startswith("camera.") and states[name]["state"] != "unavailable":
                with contextlib.suppress(HomeAssistantError):  # it has none yet
                    images[name] = len((await async_get_image(hass, name)).content)
        print(json.dumps({"states": states, "images": images, "error": error}, default=str), flush=True)
    await hass.async_stop(force=True)


class Warnings(logging.Handler):
    """Says on standard error what the MQTT integration complains of."""

    def emit(self, record):
        """One complaint."""
        if "components.mqtt" in record.name:
            print("mqtt:", record.getMessage(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, handlers=[Warnings()])
    with tempfile.TemporaryDirectory() as _folder:
        asyncio.run(main(*sys.argv[1:], _folder))

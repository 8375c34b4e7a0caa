"""The message by which Home Assistant learns of a camera."""

import json
from types import SimpleNamespace

from edgesem.errors import LinkError
from runtime.daemon.homeassistant import HomeAssistant, availability_topic, discovery, jpeg_topic
from runtime.protocol.topics import Topics

# Keys that the schemas of homeassistant 2025.4.4 (PyPI; components/mqtt: camera.DISCOVERY_SCHEMA and schemas.py) know.
# That version was seen to accept this message, and to refuse it for an unknown key in `device` or `origin`, a wrong
# availability mode, or a topic that is none. Unknown keys elsewhere it drops. `object_id` is left out: later versions
# have another name for it.
CAMERA = {
    "availability", "availability_mode", "availability_template", "availability_topic", "device", "enabled_by_default",
    "encoding", "entity_category", "entity_picture", "icon", "image_encoding", "json_attributes_template",
    "json_attributes_topic", "name", "origin", "payload_available", "payload_not_available", "qos", "topic",
    "unique_id",
}  # fmt: skip
DEVICE = {
    "configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name",
    "serial_number", "suggested_area", "sw_version", "via_device",
}  # fmt: skip
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}
ORIGIN = {"name", "sw_version", "support_url"}


def test_a_camera_is_announced_as_home_assistants_schema_wants_it():
    topics = Topics("my home", "cam.1", "main")
    topic, payload = discovery(topics, "homeassistant", "homeassistant/edgesem/x/availability")
    assert topic.startswith("homeassistant/camera/edgesem_my_home_cam_1_main_")
    assert topic.endswith("/config")
    config = json.loads(payload)
    assert set(config) <= CAMERA
    assert set(config["device"]) <= DEVICE
    assert set(config["origin"]) <= ORIGIN
    assert {"name"} <= set(config["origin"])
    assert config["device"]["identifiers"]
    assert config["availability_mode"] in ("all", "any", "latest")
    assert all({"topic"} <= set(one) <= AVAILABILITY for one in config["availability"])
    assert config["availability"][1]["topic"] == availability_topic(topics)
    assert config["topic"] == jpeg_topic(topics)
    assert not config["topic"].startswith("homeassistant")
    other, _ = discovery(Topics("my_home", "cam.1", "main"), "homeassistant", "x")
    assert other != topic


def test_that_the_receiver_runs_is_said_once_on_each_connection_also_without_a_stream():
    said, home = [], HomeAssistant("homeassistant", about="x")

    def publish(topic, payload, retain):
        if not connected:
            raise LinkError("the connection is lost")
        said.append((topic, payload))

    home.receiver = SimpleNamespace(connection=SimpleNamespace(connected=True, publish=publish))
    connected = False
    home.refresh()
    connected = True
    for _ in range(5):
        home.refresh()
    assert said == [(home.topic, b"online")]
    home.announce_again()
    home.refresh()
    assert said == [(home.topic, b"online")] * 2

"""The message by which Home Assistant learns of a camera."""

import json

from runtime.daemon.homeassistant import availability_topic, discovery, jpeg_topic
from runtime.protocol.topics import Topics

# homeassistant/components/mqtt (2026.11): camera.py, schemas.py, const.py. An unknown key at the top of a device
# discovery refuses the whole device; a wrong type refuses the camera.
CAMERA = {
    "availability", "availability_mode", "availability_topic", "availability_template", "payload_available",
    "payload_not_available", "default_entity_id", "device", "enabled_by_default", "encoding", "entity_category",
    "entity_picture", "icon", "image_encoding", "json_attributes_template", "json_attributes_topic", "name", "origin",
    "qos", "topic", "unique_id",
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

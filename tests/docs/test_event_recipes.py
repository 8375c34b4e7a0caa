"""The Home Assistant blueprint and the Node-RED flow in docs/: they are well formed, and ask for what messages have."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from edgesem.config import load_config
from edgesem.packet.capture_time import utc_text
from runtime.daemon.receive_settings import ReceiveSettings
from runtime.daemon.send_settings import SendSettings
from runtime.protocol.topics import Topics
from runtime.receiver.event_record import COMPLETE, EventRecord

yaml = pytest.importorskip("yaml")
jinja2 = pytest.importorskip("jinja2")
DOCS = Path(__file__).parents[2] / "docs"
RECORD = EventRecord(
    "03a62aaf",
    "home/gate/main",
    "20261130T160407.573Z-03a62aaf",
    1796054647573,
    "ask",
    "door bell",
    COMPLETE,
    11,
    0,
    -2.6,
    3.0,
    ".mp4",
    True,
)
MESSAGE = {"v": 1, "time": utc_text(RECORD.time_ms), **RECORD.shown()}
BEGUN = {**MESSAGE, "phase": "begun", "clip": None, "clip_type": None, "sheet": None}


class Input(str):
    """The name after an `!input` tag."""


class Loader(yaml.SafeLoader):
    """Reads a blueprint as Home Assistant does, with its tag."""


Loader.add_constructor("!input", lambda loader, node: Input(loader.construct_scalar(node)))


@pytest.fixture(scope="module")
def blueprint():
    return yaml.load((DOCS / "homeassistant-event.yaml").read_text(), Loader)


def values(tree):
    """All scalars of a tree."""
    if isinstance(tree, dict):
        return [one for value in tree.values() for one in values(value)]
    return [one for value in tree for one in values(value)] if isinstance(tree, list) else [tree]


def rendered(template, **known):
    """A template as Home Assistant renders it; a name or key that is not there is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["timestamp_custom"] = lambda time_s, form: f"{time_s:.3f} {form}"
    return environment.from_string(template).render(**known)


def test_each_input_of_the_blueprint_is_used_and_each_that_is_used_is_there(blueprint):
    assert blueprint["blueprint"]["domain"] == "automation"
    used = {value for value in values({**blueprint, "blueprint": {}}) if isinstance(value, Input)}
    assert used == blueprint["blueprint"]["input"].keys()
    assert all("selector" in about for about in blueprint["blueprint"]["input"].values())
    assert blueprint.keys() == {"blueprint", "mode", "max", "variables", "triggers", "conditions", "actions"}


def test_the_topics_are_those_of_the_messages(blueprint):
    asked = Topics("a", "b", "c").base.replace("a/b/c", "+/+/+") + "/event"
    assert blueprint["blueprint"]["input"]["topic"]["default"] == asked
    flow = json.loads((DOCS / "nodered-event.json").read_text())
    assert [node["topic"] for node in flow if node["type"] == "mqtt in"] == [asked]


@pytest.mark.parametrize("message", [MESSAGE, BEGUN], ids=["complete", "begun"])
def test_the_blueprint_says_what_a_message_has(blueprint, message):
    trigger = {"payload_json": message}
    condition = blueprint["conditions"][0]["value_template"]
    assert rendered(condition, trigger=trigger, phases=["begun", "complete"]) == "True"
    assert rendered(condition, trigger=trigger, phases=[]) == "False"
    base = rendered(blueprint["actions"][0]["variables"]["base"], receiver_url="https://cams.example/")
    notify = blueprint["actions"][1]
    known = {"event": message, "base": base}
    assert rendered(notify["title"], **known) == "home/gate/main"
    text = rendered(notify["message"], **known)
    assert text.startswith("door bell, 1796054647.573 %H:%M:%S")
    assert text.endswith(", 11 frames") is (message is MESSAGE)
    data = {key: rendered(value, **known) for key, value in notify["data"].items()}
    name = f"https://cams.example/events/{RECORD.stream}/{RECORD.id}"
    shown = (f"{name}-sheet.jpg", f"{name}.mp4") if message is MESSAGE else (f"{name}.jpg", f"{name}.jpg")
    assert (data["image"], data["url"]) == shown
    assert data["tag"] == "03a62aaf"


def test_the_node_red_flow_is_joined_up_and_asks_for_keys_that_there_are():
    flow = json.loads((DOCS / "nodered-event.json").read_text())
    nodes = {node["id"]: node for node in flow}
    assert len(nodes) == len(flow)
    for node in flow:
        assert node.get("z", "edgesem-tab") == "edgesem-tab"
        assert all(wire in nodes for wires in node.get("wires", []) for wire in wires)
        assert node.get("broker", "") in nodes or node["type"] != "mqtt in"
    (function,) = (node for node in flow if node["type"] == "function")
    assert set(re.findall(r"\bevent\.(\w+)", function["func"])) <= MESSAGE.keys()
    (switch,) = (node for node in flow if node["type"] == "switch")
    assert [rule["v"] for rule in switch["rules"]] == ["begun", "complete"]
    assert switch["property"].removeprefix("payload.") in MESSAGE


@pytest.mark.parametrize(("number", "kind"), [(0, SendSettings), (1, ReceiveSettings)])
def test_the_guides_settings_are_all_that_there_are_and_the_defaults(tmp_path, number, kind):
    guide = (DOCS / "guides/events.md").read_text()
    text = re.findall(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)[number]
    (tmp_path / "x.toml").write_text(text)
    event = load_config(tmp_path / "x.toml", kind).event
    assert event == kind().event
    assert all(f"\n{field.name} = " in text for field in fields(event))

"""Mirror: what one sender publishes, under the names of many, so that a receiver has as many streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


@contextmanager
def mirrored(port: int, credentials: Path, count: int) -> Iterator[None]:
    """Publish packets and births of each stream of site `home` under `count` other names of site `mirror`.

    The broker is on this machine, and `credentials` the file of its login that `edgesem broker` names.
    """
    login = json.loads(credentials.read_text())
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(login["user"], login["password"])

    def subscribe(client: mqtt.Client, *_: Any) -> None:
        client.subscribe([("edgesem/v1/home/+/+/pkt/+", 0), ("edgesem/v1/home/+/+/birth", 0)])

    def publish(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        rest = message.topic.split("/", 5)[5]
        for number in range(count):
            client.publish(f"edgesem/v1/mirror/{number}/main/{rest}", message.payload)

    client.on_connect, client.on_message = subscribe, publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()

#!/usr/bin/env bash
# Finding: a viewer that connects to amqtt's broker is sent each retained picture once for every topic filter that somebody has,
#   and then once more for its own subscription: five copies of 20 KB in place of one.
# Version: amqtt 0.12.1 (broker), paho-mqtt 2.2.0 (clients).
# Expected: MQTT 3.1.1: a retained message is sent when a client subscribes, once for each of its subscriptions. A message is
#   delivered with the lower one of the QoS of its publisher and that of the subscription.
# Seen: on each connection, with a clean session too, the broker goes through all filters that it knows and sends what they match;
#   the subscription's own copy follows. With four filters around (an archive, a wall of monitors, two viewers) a picture
#   comes five times, four of them with QoS 0. A live message that was published with QoS 0 is delivered with the
#   subscription's QoS, 1 or 2, so it is acknowledged, and repeated where it should be lost.
# Meaning: retained pictures are what a viewer is shown at once when it comes back on a thin link; here each loss of the link costs
#   as many copies as the installation has filters, and a test with one client shows two. Put no pictures into retained
#   messages with this broker (publish a number, and the picture on request), and subscribe with the QoS that the camera uses.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check amqtt==0.12.1 paho-mqtt==2.2.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import asyncio
import logging
import socket
import time
from threading import Event, Thread
import paho.mqtt.client as mqtt
from amqtt.broker import Broker

logging.disable(logging.CRITICAL)
PICTURE = bytes(20_000)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]

async def broker(ready):
    await Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
                  "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}).start()
    ready.set()
    await asyncio.get_running_loop().create_future()

class Client:
    """A connected client. got: topic, length, QoS and retain flag of each message."""
    def __init__(self, name, topic=None, qos=0):
        self.got, self.done = [], Event()
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name)  # a clean session
        self.paho.on_message = lambda _, __, m: self.got.append((m.topic, len(m.payload), m.qos, m.retain))
        self.paho.on_connect = lambda *_: self.paho.subscribe(topic, qos) if topic else self.done.set()
        self.paho.on_subscribe = lambda *_: self.done.set()
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()
        assert self.done.wait(10)

    def settled(self):
        """The messages, once none came for a second."""
        before = None
        while before != (before := len(self.got)):
            time.sleep(1)
        return self.got

ready = Event()
Thread(target=lambda: asyncio.run(broker(ready)), daemon=True).start()
assert ready.wait(10)
camera = Client("camera")
live = {qos: Client(f"live {qos}", "live", qos) for qos in (0, 1, 2)}
camera.paho.publish("live", b"now", qos=0).wait_for_publish(10)
delivered = {qos: [m[2] for m in client.settled()] for qos, client in live.items()}
print("published with QoS 0; delivered by QoS of the subscription:", delivered)
assert delivered == {0: [0], 1: [1], 2: [2]}, "the QoS is not raised any more"

camera.paho.publish("camera/1", PICTURE, qos=1, retain=True).wait_for_publish(10)
around, clients = set(), []
for topic, copies in ((None, 1), ("camera/#", 3), ("camera/+", 4), ("+/1", 5)):
    clients += [Client(f"for {topic}", topic)] if topic else []
    clients.append(Client(f"viewer {copies}", "camera/1", 1))
    around |= {topic} if topic else set()
    got = clients[-1].settled()
    print(f"filters {sorted(around)}: {len(got)} copies, {sum(m[1] for m in got)} bytes, QoS {[m[2] for m in got]}")
    assert got == [("camera/1", len(PICTURE), qos, True) for qos in (*[0] * (copies - 1), 1)], "other copies come now"
    around.add("camera/1")
EOF

#!/usr/bin/env bash
# Finding: a message with a lifetime of 2 seconds that waited 4 seconds in the client is sent, with a full lifetime.
# Version: paho-mqtt 2.2.0.
# Expected: Message Expiry Interval bounds the age of a picture at the viewer. A broker counts it down for the time that it
#   holds the message, so a client library with a queue would do the same.
# Seen: the time in the client's own queue does not count. After the outage the message goes out, with the interval that
#   it was given at publish().
# Meaning: after an hour without a link a camera fills the link with pictures that are an hour old, and each passes as
#   fresh at the broker and at the viewer. Keep the queue short yourself, or put the time of the picture in the payload.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check paho-mqtt==2.2.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import socket
import threading
import time
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

def exactly(sock, n):
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data

def serve(server, count, received):
    """A least broker for one client: accepts it, stores (properties, payload) of each PUBLISH and acknowledges it."""
    sock, _ = server.accept()
    while len(received) < count:
        kind, length, shift, more = exactly(sock, 1)[0] >> 4, 0, 0, 128
        while more & 128:
            more = exactly(sock, 1)[0]
            length, shift = length | (more & 127) << shift, shift + 7
        body = exactly(sock, length)
        if kind == 1:
            sock.sendall(bytes.fromhex("2003000000"))
        elif kind == 3:
            at = 2 + int.from_bytes(body[:2], "big")
            end = at + 3 + body[at + 2]
            received.append((body[at + 3:end], body[end:]))
            sock.sendall(b"\x40\x02" + body[at:at + 2])

def after_outage(publish, count):
    """Publishes while there is no connection, then connects; returns what the broker got."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "camera", protocol=mqtt.MQTTv5)
    publish(client)
    received, server = [], socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(server, count, received), daemon=True)
    thread.start()
    client.connect("127.0.0.1", server.getsockname()[1])
    client.loop_start()
    thread.join(20)
    client.disconnect()
    client.loop_stop()
    return received

WAIT = 4

def publish(client):
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 2
    client.publish("camera/1", b"old picture", qos=1, properties=properties)
    time.sleep(WAIT)

arrived = after_outage(publish, 1)
for raw, payload in arrived:
    print(f"sent {WAIT} s after publish(): {payload}, property {raw[0]} (2 = expiry), {int.from_bytes(raw[1:5], 'big')} s left")
assert len(arrived) == 1, "an expired message is not sent now"
assert arrived[0] == (bytes.fromhex("0200000002"), b"old picture"), "the interval is counted down now"
EOF

#!/usr/bin/env bash
# Finding: assigning UserProperty on an MQTT 5 Properties object adds to it, so each message is larger than the last.
# Version: paho-mqtt 2.2.0.
# Expected: an assignment replaces the value, as it does for the other properties of the object.
# Seen: each assignment appends a pair. After 1000 pictures the properties of one message are 11 KB, with all earlier
#   sequence numbers. Messages that wait in the queue share the object, so they too carry pairs that were added later.
# Meaning: a sender that keeps one Properties object and sets the sequence number on it fills a thin link with old
#   numbers, slowly enough to pass a short test. Make a new object for each message.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check paho-mqtt==2.2.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import socket
import threading
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
            end = at + 3 + body[at + 2]  # properties below 128 bytes
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

properties, sizes = Properties(PacketTypes.PUBLISH), []
for i in range(1000):
    properties.UserProperty = ("seq", str(i))
    properties.MessageExpiryInterval = i
    sizes.append(len(properties.pack()))
print("bytes of the properties of message 1, 2, 3, 10, 100, 1000:", [sizes[i - 1] for i in (1, 2, 3, 10, 100, 1000)])
print("first three pairs:", properties.UserProperty[:3], "| expiry:", properties.MessageExpiryInterval)

def publish(client):
    shared = Properties(PacketTypes.PUBLISH)
    for i in range(3):
        shared.UserProperty = ("seq", str(i))
        client.publish("camera/1", b"picture %d" % i, qos=1, properties=shared)
queued = [(raw.count(b"seq"), payload) for raw, payload in after_outage(publish, 3)]
print("pairs on the wire after an outage:", queued)
assert len(properties.UserProperty) == 1000 and properties.MessageExpiryInterval == 999, "assignment replaces now"
assert sizes[0] < 20 and sizes[-1] > 10_000
assert [n for n, _ in queued] == [3, 3, 3]
EOF

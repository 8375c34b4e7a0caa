#!/usr/bin/env bash
# Finding: three pictures published from one bytearray during an outage arrive as three copies of the last.
# Version: paho-mqtt 2.2.0.
# Expected: publish() takes the payload as it is at the call, or documents that the caller must not touch it again.
# Seen: at QoS 1 the client keeps the bytearray itself in its queue. What is written into it later is what is sent.
#   bytes(buffer) cures it.
# Meaning: a camera loop that reads into one buffer (readinto, a ring of frames) is right while the link is up, and sends
#   wrong pictures under right topics and message numbers after each outage.
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

def camera(copy):
    def publish(client):
        buffer = bytearray(9)
        for i in range(3):
            buffer[:] = b"picture %d" % i
            client.publish("camera/1", bytes(buffer) if copy else buffer, qos=1)
    return publish

reused = [payload for _, payload in after_outage(camera(copy=False), 3)]
copied = [payload for _, payload in after_outage(camera(copy=True), 3)]
print("published: picture 0, picture 1, picture 2")
print("arrived from the reused bytearray:", reused)
print("arrived from bytes():             ", copied)
assert reused == [b"picture 2"] * 3, "the payload is copied now"
assert copied == [b"picture 0", b"picture 1", b"picture 2"]
EOF

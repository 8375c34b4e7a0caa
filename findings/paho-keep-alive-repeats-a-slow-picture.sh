#!/usr/bin/env bash
# Finding: a picture whose upload takes longer than two keep-alive intervals is never confirmed: the client ends the
#   connection in the middle of the upload, and begins the same picture anew, for ever.
# Version: paho-mqtt 2.2.0.
# Expected: keep-alive finds dead links. While bytes of a picture are being taken by the other side, the link is alive.
# Seen: the picture lies in the socket's buffer, so the client takes it for sent, and after a keep-alive interval queues a
#   PINGREQ behind it. The answer cannot come in time: "Keep alive timeout", with the queue still moving. What the kernel
#   had buffered is delivered all the same: the broker gets whole copies, the later ones marked DUP, and can confirm none.
#   paho's issue 914 and pull request 923 (June 2026) are about the download of a large message.
# Meaning: a photograph of 500 KB over 16 kbit/s takes 4 minutes, and the usual 60 seconds make it a loop that fills the
#   link. A subscriber sees the same picture several times. Set keepalive to more than half of the longest upload, or
#   send pictures in parts.
# Here the broker reads 4000 bytes a second, and the keep-alive is 2 seconds.
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
from collections import Counter
import paho.mqtt.client as mqtt

RATE, PICTURE = 4000, 40_000  # bytes a second, bytes: the upload takes 10 s

def serve(link, seen):
    """A least broker for one connection: reads at RATE, answers CONNECT, PUBLISH and PINGREQ, counts bytes and PUBLISHes."""
    data = b""
    try:
        while part := link.recv(RATE // 20):
            time.sleep(1 / 20)
            seen["bytes"] += len(part)
            data += part
            while len(data) > 1:
                head = next((i for i in range(1, len(data)) if data[i] < 128), len(data)) + 1
                size = sum((byte & 127) << 7 * i for i, byte in enumerate(data[1:head]))
                if len(data) < head + size:
                    break
                kind, body, data, dup = data[0] >> 4, data[head:head + size], data[head + size:], data[0] >> 3 & 1
                at = 2 + int.from_bytes(body[:2], "big")
                link.sendall({1: b"\x20\x02\0\0", 3: b"\x40\x02" + body[at:at + 2], 12: b"\xd0\0"}.get(kind, b""))
                seen.update({"copies": kind == 3, "marked DUP": kind == 3 and dup})
    except OSError:
        pass  # the client has gone

def accept(server, seen):
    while True:
        link, _ = server.accept()
        seen["connections"] += 1
        threading.Thread(target=serve, args=(link, seen), daemon=True).start()

def send(keepalive):
    """Whether one picture is confirmed within 30 s, and what the broker saw."""
    seen, ends, server = Counter(), [], socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen()
    threading.Thread(target=accept, args=(server, seen), daemon=True).start()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "camera")
    client.reconnect_delay_set(1, 1)
    client.on_disconnect = lambda client, data, flags, reason, properties: ends.append(str(reason))
    client.connect("127.0.0.1", server.getsockname()[1], keepalive)
    client.loop_start()
    message, start = client.publish("camera/1", bytes(PICTURE), qos=1), time.monotonic()
    while not message.is_published() and time.monotonic() < start + 30:
        time.sleep(0.1)
    print(f"keep-alive {keepalive:2} s: confirmed {message.is_published()} after {time.monotonic() - start:.0f} s;",
          f"the broker saw {dict(seen)}, the client {set(ends)}")
    client.loop_stop()
    return message.is_published(), seen, set(ends)

confirmed, seen, ends = send(2)
assert not confirmed and seen["connections"] >= 4, "the upload counts as a sign of life now"
assert ends == {"Keep alive timeout"} and seen["copies"] >= 2 and seen["bytes"] > 1.5 * PICTURE
confirmed, seen, ends = send(10)
assert confirmed and seen["connections"] == seen["copies"] == 1 and not ends, "the cure fails"
EOF

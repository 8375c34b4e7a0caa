#!/usr/bin/env bash
# Finding: zenoh takes a slow link for dead while it carries a picture: what needs more than 10 seconds never arrives, and five
#   small pictures that are put at once are lost together.
# Version: eclipse-zenoh 1.10.2 (Python binding of the Rust library).
# Expected: a peer is dead when nothing came from it for the lease, 10 seconds if not set. Over TCP, with reliability as it comes,
#   a picture that is under way arrives, or put() fails.
# Seen: only a whole batch counts as a sign of life, and a batch has up to 65535 bytes. On 2000 bytes a second a picture of 25000
#   bytes comes without a pause; after 10 seconds the receiver closes the link, and the sender connects anew and has forgotten
#   it. put() returned at once. Five pictures of 5000 bytes, 2.5 s each, travel in one batch, so none arrives, though three
#   do. With the sender's transport/link/tx/lease at 60 seconds all arrive. Small batches are no cure: of 2048 bytes two fit into
#   the queue, and put() drops the picture without a word, or with BLOCK closes the link itself after 5 seconds.
# Meaning: a camera on GSM works by day, and with larger pictures or a backlog sends all its bytes for nothing and connects
#   anew every 10 seconds. Set the sender's lease to the time of the largest batch and more.
# Here a relay passes 2000 bytes a second upwards, and zenoh's shared memory, which would go round it, is off.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check eclipse-zenoh==1.10.2 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor as Pool
from contextlib import suppress
from threading import Thread
import zenoh

RATE = 2000  # bytes a second
LEASE, BATCH = {"transport/link/tx/lease": 60000}, {"transport/link/tx/batch_size": 2048}

def pump(source, target, rate):  # rate 0: at once
    with suppress(OSError), source, target:
        while data := source.recv(256 if rate else 65536):
            target.sendall(data)
            time.sleep(len(data) / rate if rate else 0)

def serve(listener, port, made):
    while True:  # each connection gets a slow way to the port
        made.append(listener.accept()[0])
        there = socket.create_connection(("127.0.0.1", port))
        Thread(target=pump, args=(made[-1], there, RATE), daemon=True).start()
        Thread(target=pump, args=(there, made[-1], 0), daemon=True).start()

def session(**settings):
    config = zenoh.Config()
    for key, value in {"scouting/multicast/enabled": False, "transport/shared_memory/enabled": False, **settings}.items():
        config.insert_json5(key, json.dumps(value))
    return zenoh.open(config)

def send(size, count, congestion, settings):
    """How many pictures arrive (in 16 s, where not all do), and whether a second connection was made."""
    arrived, made, free, listener = [], [], socket.socket(), socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    [each.bind(("127.0.0.1", 0)) for each in (free, listener)]
    port, slow = (each.getsockname()[1] for each in (free, listener))
    free.close(), listener.listen()
    with session(mode="peer", **{"listen/endpoints": [f"tcp/127.0.0.1:{port}"]}) as receiver:
        receiver.declare_subscriber("camera", arrived.append)
        Thread(target=serve, args=(listener, port, made), daemon=True).start()
        with session(mode="client", **{"connect/endpoints": [f"tcp/127.0.0.1:{slow}#so_sndbuf=4096"]}, **settings) as camera:
            publisher = camera.declare_publisher("camera", congestion_control=congestion)
            while not publisher.matching_status.matching:
                time.sleep(0.05)
            end = time.monotonic() + 16
            for _ in range(count):
                publisher.put(bytes(size))
            while time.monotonic() < end and len(arrived) < count:
                time.sleep(0.1)
            print(f"{count} of {size} bytes, {settings} {congestion}: {len(arrived)} arrived, {len(made)} connections")
            return len(arrived), len(made) > 1

drop, block = zenoh.CongestionControl.DEFAULT, zenoh.CongestionControl.BLOCK
cases = [(15000, 1, drop, {}), (5000, 3, drop, {}), (25000, 1, drop, {}), (5000, 5, drop, {}), (25000, 1, drop, LEASE),
         (5000, 5, drop, LEASE), (25000, 1, drop, BATCH), (25000, 1, block, BATCH)]
got = list(Pool(8).map(lambda case: send(*case), cases))
assert got[:2] == [(1, False), (3, False)] and got[4:6] == [(1, False), (5, False)], "what fits, or the cure, fails"
assert got[2:4] == [(0, True)] * 2 and got[6:] == [(0, False), (0, True)], "the busy link is kept now"
EOF

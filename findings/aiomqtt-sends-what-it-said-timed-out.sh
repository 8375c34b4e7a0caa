#!/usr/bin/env bash
# Finding: publish() of a picture that takes longer than 10 seconds fails with "Operation timed out", and the picture is sent
#   nevertheless. A program that tries again sends it twice, three times, and each attempt makes the next one slower.
# Version: aiomqtt 2.5.1, paho-mqtt 2.2.0.
# Expected: a call that fails after a time-out has taken the message back, or says that it is still on its way. The docstring
#   has "the maximum time in seconds to wait for publication to complete".
# Seen: the limit ends the waiting only. The message stays in paho's queue, goes out, and is acknowledged to nobody. Three
#   attempts for one picture put three copies with three packet identifiers on the link, none marked as a duplicate. The
#   second and third attempt wait behind the first, so they time out too, though each copy arrives.
# Meaning: 20 KB need 10 s at 16 kbit/s. The usual loop "on MqttError try again" turns a slow link into a jammed one, and a
#   subscriber counts each picture several times. Give publish() timeout=math.inf and bound the queue yourself, or put a
#   number into the payload and never publish the same one twice on one connection.
# Here the broker reads 4000 bytes a second and the limit is 3 seconds in the place of 10.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check aiomqtt==2.5.1 paho-mqtt==2.2.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import asyncio
import math
import socket
import aiomqtt

RATE, PICTURE = 4000, 20_000  # bytes a second, bytes: the upload takes 5 s

async def broker(reader, writer, packets):
    """Reads at RATE, answers CONNECT and PUBLISH; collects identifier and DUP flag of each PUBLISH."""
    async def take(count):
        part = await reader.readexactly(count)
        await asyncio.sleep(count / RATE)
        return part
    try:
        while True:
            head, size, shift, more = (await take(1))[0], 0, 0, 128
            while more & 128:
                more = (await take(1))[0]
                size, shift = size | (more & 127) << shift, shift + 7
            body = b"".join([await take(min(200, size - at)) for at in range(0, size, 200)])
            if head >> 4 == 1:
                writer.write(b"\x20\x02\0\0")
            elif head >> 4 == 3:
                at = 2 + int.from_bytes(body[:2], "big")
                packets.append((int.from_bytes(body[at:at + 2], "big"), bool(head & 8)))
                writer.write(b"\x40\x02" + body[at:at + 2])
    except asyncio.IncompleteReadError:
        pass  # the client has gone

async def camera(attempts, **limit):
    """Errors of publish(), and the packets that the broker had 20 s later."""
    packets, errors, end = [], [], socket.create_server(("127.0.0.1", 0))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(lambda *link: broker(*link, packets), sock=end, limit=2048)
    async with aiomqtt.Client("127.0.0.1", end.getsockname()[1], timeout=3) as client:
        for attempt in range(attempts):
            try:
                await client.publish("camera/1", bytes(PICTURE), qos=1, **limit)
                break
            except aiomqtt.MqttError as error:
                errors.append(str(error))
        await asyncio.sleep(20 if errors else 0)
    await asyncio.sleep(1)  # the broker reads the end
    server.close()
    print(f"{limit or ''} errors: {errors}; the broker got (identifier, duplicate): {packets}")
    return errors, packets

errors, packets = asyncio.run(camera(3))
assert errors == ["Operation timed out"] * 3
assert packets == [(1, False), (2, False), (3, False)], "a message that timed out is taken back now"
assert asyncio.run(camera(3, timeout=math.inf)) == ([], [(1, False)]), "the cure fails"
EOF

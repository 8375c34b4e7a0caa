#!/usr/bin/env bash
# Finding: gmqtt answers the broker's wish for at most 20 open messages with an exception at the 20th, and the wish for at most
#   1 by sending all at once.
# Version: gmqtt 0.8.0.
# Expected: MQTT 5's Receive Maximum says how many QoS 1 messages may wait for their PUBACK. A client holds back the rest, or
#   its manual says that the caller has to. mosquitto announces 20 if it is not told otherwise (max_inflight_messages).
# Seen: the number becomes the bound of the packet identifiers, and one too few: with 20 the 20th publish() in a row raises
#   OverflowError ("All ids has already used"), with 2 the second. publish() is no coroutine and gives no handle to wait for.
#   Without a limit 60 in a row go out. A limit of 1, which keeps the order of messages, is logged as invalid and dropped:
#   60 messages are open at once, which MQTT 5 calls a protocol error of the client (reason 0x93).
# Meaning: a picture in parts, or a backlog after an outage, loses its end at a broker with default settings, where a test
#   broker without the limit takes it; on a quick link with pauses between messages nothing is seen. Catch OverflowError and
#   try again after a while, as below. A limit of 1 the caller has to keep by himself.
# Here a broker of a few lines announces the limit and acknowledges after 0.05 s.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check gmqtt==0.8.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import asyncio
from gmqtt import Client

PARTS = 60

class Broker:
    """Takes one client, announces receive_maximum, and notes how many PUBLISHes were open at once."""
    def __init__(self, receive_maximum):
        self.properties = b"" if receive_maximum is None else b"\x21" + receive_maximum.to_bytes(2, "big")
        self.open = self.most = self.taken = 0

    async def serve(self, reader, writer):
        while (first := await reader.read(1)) and first[0] >> 4 in (1, 3):  # CONNECT, PUBLISH
            length = shift = 0
            while (digit := (await reader.readexactly(1))[0]) > 127:
                length, shift = length | (digit & 127) << shift, shift + 7
            body = await reader.readexactly(length | digit << shift)
            if first[0] >> 4 == 1:
                writer.write(bytes([0x20, 3 + len(self.properties), 0, 0, len(self.properties)]) + self.properties)
                continue
            self.taken, self.open = self.taken + 1, self.open + 1
            self.most = max(self.most, self.open)
            asyncio.get_running_loop().call_later(0.05, self.acknowledge, writer, body[9:11])  # behind the topic

    def acknowledge(self, writer, identifier):
        self.open -= 1
        writer.write(b"\x40\x02" + identifier)

async def send(receive_maximum, patient=False):
    """How many parts publish() took, the error, and the most that were open at once."""
    broker = Broker(receive_maximum)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    client = Client("camera")
    await client.connect("127.0.0.1", server.sockets[0].getsockname()[1])
    error, taken = None, 0
    while taken < PARTS and error is None:
        try:
            client.publish("picture", bytes(200), qos=1)
            taken += 1
        except OverflowError as problem:
            error = None if patient else problem
            await asyncio.sleep(0.02)
    while broker.open or broker.taken < taken:
        await asyncio.sleep(0.02)
    await client.disconnect()
    print(f"receive maximum {receive_maximum!s:>4}{', trying again' if patient else '':14}: {taken:2} of {PARTS} parts taken, "
          f"at most {broker.most:2} open, {error!r}")
    return taken, broker.most, type(error)

async def main():
    assert await send(None) == (PARTS, PARTS, type(None))
    assert await send(20) == (19, 19, OverflowError), "the 20th message is taken now"
    assert await send(2) == (1, 1, OverflowError)
    assert await send(1) == (PARTS, PARTS, type(None)), "a limit of 1 is kept now"
    assert await send(20, patient=True) == (PARTS, 19, type(None)), "the cure fails"

asyncio.run(main())
EOF

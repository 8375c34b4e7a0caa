#!/usr/bin/env bash
# Finding: a picture of 3 KB that aiocoap uploads over 2.4 kbit/s costs 6 to 8 KB and takes 17 to 21 seconds in place of 10:
#   each block is sent two or three times, though no byte is lost.
# Version: aiocoap 0.4.17.
# Expected: CoAP is made for links of this kind. A block-wise transfer waits for the answer to one block before it sends the
#   next, so it keeps to the pace of the link, and after the first block it knows how long an answer takes.
# Seen: blocks have 1024 bytes, which are 3.4 s on this link. The answer is waited for 2 to 3 s, for each block anew, then the
#   block is put into the link's queue once more, before the next block, whose answer is late for that reason. The
#   upload succeeds, and nothing is reported. At 8 kbit/s not one block is repeated.
# Meaning: the cliff lies where a block takes 2 to 3 seconds: a little below it the link carries two to three times the
#   bytes, and a budget in bytes or a battery is gone early. Smaller blocks (maximum_block_size_exp) or a longer ACK_TIMEOUT
#   (transport_tuning) cure it; both are set on the message before it is sent.
# Here a relay on loopback passes 300 or 1000 bytes a second upwards, without loss.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check aiocoap==0.4.17 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
import asyncio
import socket
import aiocoap
from aiocoap import resource
from aiocoap.numbers.constants import TransportTuning

PICTURE = bytes(3000)

class Sink(resource.Resource):
    async def render_put(self, request):
        self.received = request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)

class Patient(TransportTuning):
    ACK_TIMEOUT = 10.0

class Uplink(asyncio.DatagramProtocol):
    """Passes datagrams to the server at rate bytes a second, one after the other, and the answers back at once."""
    def __init__(self, server, rate):
        self.server, self.rate, self.free_s, self.datagrams, self.bytes = server, rate, 0.0, 0, 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, sender):
        if sender[1] == self.server[1]:
            return self.transport.sendto(data, self.client)
        self.client, loop = sender, asyncio.get_running_loop()
        self.datagrams, self.bytes = self.datagrams + 1, self.bytes + len(data)
        self.free_s = max(loop.time(), self.free_s) + len(data) / self.rate
        loop.call_at(self.free_s, self.transport.sendto, data, self.server)

async def upload(name, rate, size_exp=6, **options):
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    site, sink, loop = resource.Site(), Sink(), asyncio.get_running_loop()
    site.add_resource(["picture"], sink)
    server = await aiocoap.Context.create_server_context(site, bind=address)
    relay, uplink = await loop.create_datagram_endpoint(lambda: Uplink(address, rate), local_addr=("127.0.0.1", 0))
    client, start = await aiocoap.Context.create_client_context(), loop.time()
    uri = f"coap://127.0.0.1:{relay.get_extra_info('sockname')[1]}/picture"
    message = aiocoap.Message(code=aiocoap.PUT, uri=uri, payload=PICTURE, **options)
    message.remote.maximum_block_size_exp = size_exp  # blocks of 2 ** (size_exp + 4) bytes
    await client.request(message).response
    print(f"{name:38} {uplink.datagrams:2} datagrams, {uplink.bytes:5} bytes, {loop.time() - start:4.1f} s")
    assert sink.received == PICTURE
    await asyncio.gather(client.shutdown(), server.shutdown())
    return uplink.datagrams, uplink.bytes

async def main():
    fast, slow, small, patient = await asyncio.gather(
        upload("1000 bytes a second", 1000), upload("300 bytes a second", 300),
        upload("300, blocks of 256 bytes", 300, size_exp=4), upload("300, ACK_TIMEOUT 10 s", 300, transport_tuning=Patient()))
    assert fast[0] == 3 and small[0] == 12 and patient[0] == 3, "a cure fails"
    assert slow[0] >= 6 and slow[1] > 2 * len(PICTURE), "blocks are not repeated now"

asyncio.run(main())
EOF

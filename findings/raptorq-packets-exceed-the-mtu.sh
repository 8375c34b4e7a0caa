#!/usr/bin/env bash
# Finding: raptorq is given the size that a packet may have, and makes packets that are up to 4 bytes larger, for half of all
#   sizes. A message of 1 byte takes a full packet.
# Version: raptorq 2.0.0 (Python binding of the Rust library for RFC 6330).
# Expected: the parameter is called maximum_transmission_unit, and get_encoded_packets() gives the bytes that go on the air,
#   so none is longer.
# Seen: the size of a symbol is the limit, from 64 on rounded down to a multiple of 8, and 4 bytes of identification come on
#   top. 222 (rounded to 216) gives 220 bytes, but 242 gives 244, 115 gives 116, 51 gives 55, 1400 gives 1404. With the limit
#   less 4 all packets fit. A message shorter than a packet is filled up: 1 byte costs 1204 bytes at a limit of 1200.
# Meaning: LoRaWAN carries 51, 115, 222 or 242 bytes by region and rate. At three of these the modem refuses each packet, and
#   at 222 all is well, so it looks like a fault of the radio. On a UDP path each packet is split in two and is lost
#   when either part is. Pass the limit less 4, and choose the limit by the message where messages are short.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "skipped: needs Python 3.10 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check raptorq==2.0.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
timeout 100 venv/bin/python -I - <<'EOF'
from raptorq import Decoder, Encoder

PICTURE = bytes(range(256)) * 16

def packets(data, limit, repair=0):
    return Encoder.with_defaults(data, limit).get_encoded_packets(repair)

def longest(limit):
    return max(map(len, packets(PICTURE, limit)))

sizes = {limit: longest(limit) for limit in (51, 115, 222, 242, 1200, 1400)}
for limit, size in sizes.items():
    print(f"limit {limit:4}: packets of {size:4} bytes; with limit - 4 passed: {longest(limit - 4):4}")
assert sizes == {51: 55, 115: 116, 222: 220, 242: 244, 1200: 1204, 1400: 1404}, "the packets have other sizes now"
tried = range(32, 1500)
over = [limit for limit in tried if longest(limit) > limit]
print(f"of the limits 32 to 1499 {100 * len(over) / len(tried):.0f} % are exceeded, by at most "
      f"{max(longest(limit) - limit for limit in over)} bytes")
assert 0.45 < len(over) / len(tried) < 0.6
assert all(longest(limit - 4) <= limit for limit in tried), "the cure fails"

for length in (1, 40, 1000):
    print(f"message of {length:4} bytes, limit 1200: {sum(map(len, packets(bytes(length), 1200)))} bytes on the air")
    assert sum(map(len, packets(bytes(length), 1200))) == 1204
assert sum(map(len, packets(bytes(40), 40))) == 44

decoder, received = Decoder.with_defaults(len(PICTURE), 238), None
for packet in packets(PICTURE, 238, repair=6)[3:]:  # three packets are lost
    assert len(packet) <= 242
    received = received or decoder.decode(packet)
assert bytes(received) == PICTURE, "what is sent with the smaller limit does not decode"
EOF

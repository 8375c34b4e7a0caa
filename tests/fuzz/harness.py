"""Feeds the parsers of outside bytes what libFuzzer makes up: `python tests/fuzz/harness.py TARGET [OPTION]...`.

A parser may answer with a value or with PacketError; anything else ends the run with a crash file. Needs the extra
`fuzz` (atheris). The options are libFuzzer's: without any it runs until it is stopped, `-max_total_time=60` ends it
after a minute, and a folder is a corpus to start from.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import zlib
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["edgesem", "runtime", "cbor2"]):
    from edgesem.errors import PacketError
    from edgesem.packet.packet import Packet
    from edgesem.packet.seal import Seal
    from runtime.process.rate_limit import RateLimitedLog
    from runtime.protocol.ack import Ack
    from runtime.protocol.birth import Birth
    from runtime.protocol.command import Command
    from runtime.protocol.state import State
    from runtime.protocol.topics import Topics
    from runtime.receiver.streams import Streams

BASE = "edgesem/v1/a/b/c"


def packet(data: bytes) -> None:
    """A packet, as it comes and behind a checksum that is right, so that what is behind it is reached."""
    _read_packet(data)
    if len(data) >= 24:
        head = b"\xe5\x10" + data[2:20]
        _read_packet(head + struct.pack("<I", zlib.crc32(head + data[24:])) + data[24:])


def _read_packet(data: bytes) -> None:
    try:
        read = Packet.from_bytes(data)
    except PacketError:
        return
    assert read.to_bytes() == data
    Packet.join(read.split()) if read.first_layer == 0 else None


def sealed(data: bytes) -> None:
    """A sealed packet and a signed message of somebody without the key."""
    seal = Seal(bytes(32), stream=BASE, salt=bytes(16))
    for attempt in (lambda: seal.open(data), lambda: seal.verify(data, BASE)):
        try:
            attempt()
        except PacketError:
            continue
        raise AssertionError("opened without the key")


def messages(data: bytes) -> None:
    """Every CBOR message: acknowledgement, command, state, birth. What is read is written and read the same again."""
    for parse in (Ack.from_bytes, Command.from_bytes, State.from_bytes):
        try:
            read = parse(data)
        except PacketError:
            continue
        assert parse(read.to_bytes()) == read
    with contextlib.suppress(PacketError):
        Birth.from_bytes(data, base=BASE)


def receiver(data: bytes) -> None:
    """A receiver's whole way from a message to a frame that waits; nothing may come out of it but counters."""
    streams = Streams(bundle_id=0, publish=lambda _topic, _payload, _qos: None)
    streams._limited_log = _SILENT
    provider = atheris.FuzzedDataProvider(data)
    for _ in range(provider.ConsumeIntInRange(1, 4)):
        rest = provider.PickValueInList(["pkt/0", "pkt/1", "pkt/2", "pkt/3", "birth", "state", "ack", "pkt/"])
        topic = f"{BASE}/{rest}" if provider.ConsumeBool() else provider.ConsumeUnicode(40)
        body = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 300))
        if rest.startswith("pkt") and len(body) >= 24:
            head = b"\xe5" + bytes([0x10 | body[1] & 2]) + bytes(2) + body[4:20]
            body = head + struct.pack("<I", zlib.crc32(head + body[24:])) + body[24:]
        streams.on_message(topic, body)
    streams.flush()
    while streams.next_frame(0) is not None:
        pass


def topic(data: bytes) -> None:
    """A topic, which is whatever text a stranger publishes to."""
    text = data.decode("utf-8", "replace")
    try:
        topics, rest = Topics.parse(text)
    except PacketError:
        return
    assert f"{topics.base}/{rest}" == text


class _Silent:
    def warning(self, *_: object) -> None:
        pass


_SILENT = RateLimitedLog(_Silent())  # type: ignore[arg-type]
TARGETS: dict[str, Callable[[bytes], None]] = {
    "packet": packet,
    "sealed": sealed,
    "messages": messages,
    "receiver": receiver,
    "topic": topic,
}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()

"""Feeds the parsers of outside bytes what libFuzzer makes up: `python tests/fuzz/harness.py TARGET [OPTION]...`.

A parser may answer with a value or with its own error; anything else ends the run with a crash file, and so does an
input that takes more than 5 s of processor time. That counts no waiting, so a busy machine is no fault; an endless loop
is libFuzzer's to end, by `-timeout`. Needs the extra `fuzz` (atheris). The options are libFuzzer's: without any it runs
until it is stopped, `-max_total_time=60` ends it after a minute, and a folder is a corpus to start from. The target
`bundle` reads files below TMPDIR: let that be in memory, on a disk each input waits until the one before is written.
"""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris
import cbor2

with atheris.instrument_imports(include=["edgesem", "runtime", "cbor2"]):
    from edgesem.bundle.arrays import read_arrays
    from edgesem.bundle.manifest import MANIFEST, read_manifest
    from edgesem.errors import BundleError, InputError, PacketError
    from edgesem.packet.packet import Packet
    from edgesem.packet.plain_cbor import check_plain_cbor
    from edgesem.packet.seal import Seal
    from edgesem.provenance import Provenance
    from runtime.capture.pnm import read_pnm
    from runtime.process.rate_limit import RateLimitedLog
    from runtime.protocol.ack import Ack
    from runtime.protocol.birth import Birth
    from runtime.protocol.command import Command
    from runtime.protocol.piece import Piece
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
    """Every message but packets: acknowledgement, command, state, birth, piece. What is read is written and read the
    same again."""
    for parse in (Ack.from_bytes, Command.from_bytes, State.from_bytes, Piece.from_bytes):
        try:
            read = parse(data)
        except PacketError:
            continue
        assert parse(read.to_bytes()) == read
    with contextlib.suppress(PacketError):
        Birth.from_bytes(data, base=BASE)


def cbor(data: bytes) -> None:
    """What the check of plain CBOR lets through is read as plain values alone, or is no UTF-8."""
    try:
        check_plain_cbor(data, 1 << 16, 8)
    except PacketError:
        return
    try:
        value = cbor2.loads(data)
    except cbor2.CBORDecodeError:  # texts that are no UTF-8
        return
    _assert_plain(value)


def _assert_plain(value: object) -> None:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            _assert_plain(item)
    else:
        assert value is None or type(value) in (bool, int, float, str, bytes), value


def bundle(data: bytes) -> None:
    """A bundle's manifest, and its arrays: as they come, and as the member of an archive that is right."""
    (_FOLDER / MANIFEST).write_bytes(data)
    with contextlib.suppress(BundleError):
        read_manifest(_FOLDER, (), 3)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", data)
    for body in (data, buffer.getvalue()):
        path = _FOLDER / "arrays.npz"
        path.write_bytes(body)
        with contextlib.suppress(BundleError):
            read_arrays(path, ("a",))


def texts(data: bytes) -> None:
    """A provenance record out of a picture, and pictures on standard input."""
    with contextlib.suppress(InputError):
        Provenance.from_text(data.decode("latin-1"))
    with contextlib.suppress(InputError):
        for picture, _ in read_pnm(io.BytesIO(data)):
            assert picture.ndim == 3


def receiver(data: bytes) -> None:
    """A receiver's whole way from a message to a frame that waits; nothing may come out of it but counters."""
    streams = Streams(bundle_ids=[0], publish=lambda _topic, _payload, _qos: None)
    streams._limited_log = _SILENT
    provider = atheris.FuzzedDataProvider(data)
    for _ in range(provider.ConsumeIntInRange(1, 4)):
        rest = provider.PickValueInList(
            ["pkt/0", "pkt/1", "pkt/2", "pkt/3", "pkt/piece", "birth", "state", "ack", "pkt/"]
        )
        topic = f"{BASE}/{rest}" if provider.ConsumeBool() else provider.ConsumeUnicode(40)
        body = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 300))
        if rest == "pkt/piece" and len(body) >= 40:
            size_bytes = len(body) - 20 - body[19] % 8  # the whole of a small packet, or all but a little
            body = b"\xe6\x10" + body[2:8] + body[40:44] + struct.pack("<II", size_bytes, body[16] % 16) + body[20:]
        elif rest.startswith("pkt") and len(body) >= 24:
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


def each(data: bytes) -> None:
    """All targets, one after the other, for a short run: instrumenting the code takes longer than 500 inputs."""
    for name, target in TARGETS.items():
        if name != "all":
            target(data)


def limited(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, which fails with an input that takes too long."""

    def run(data: bytes) -> None:
        began_s = time.process_time()
        target(data)
        took_s = time.process_time() - began_s
        assert took_s < MOST_CPU_S, f"{len(data)} bytes took {took_s:.1f} s of processor time"

    return run


MOST_CPU_S = 5.0
_log = logging.getLogger("edgesem.fuzz")
_log.disabled = True
_SILENT = RateLimitedLog(_log)
_FOLDER = Path(tempfile.mkdtemp(prefix="edgesem-fuzz-"))
TARGETS: dict[str, Callable[[bytes], None]] = {
    "packet": packet,
    "sealed": sealed,
    "messages": messages,
    "receiver": receiver,
    "topic": topic,
    "cbor": cbor,
    "bundle": bundle,
    "texts": texts,
    "all": each,
}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], limited(TARGETS[sys.argv[1]]))
    atheris.Fuzz()

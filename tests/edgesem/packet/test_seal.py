"""Sealed packets, signed messages, keys in files: what is ours opens, and nothing else does."""

import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import InputError, PacketError, UsageError
from edgesem.packet.keys import Identity, check_signature, new_key, read_key, read_secret
from edgesem.packet.packet import HEADER_BYTES, Packet
from edgesem.packet.replay import Replay
from edgesem.packet.seal import KEY_BYTES, TAG_BYTES, Seal, new_salt

KEY, SALT, STREAM = bytes(range(KEY_BYTES)), bytes(16), "edgesem/v1/home/gate/main"
SEAL = Seal(KEY, stream=STREAM, salt=SALT)
PACKET = Packet(7, 1, 42, 99, 640, 480, 9, 4, 0, (b"base layer",))
PACKETS = st.builds(
    lambda epoch, frame, chunk, promised: Packet(7, epoch, frame, 0, 64, 64, 9, 1, 0, (chunk,), promised),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    st.booleans(),
)


@given(PACKETS)
def test_what_was_sealed_opens_and_is_16_bytes_longer(packet):
    sealed = SEAL.seal(packet.to_bytes())
    assert len(sealed) == packet.size_bytes + TAG_BYTES
    assert Packet.from_bytes(SEAL.open(sealed)) == packet


def test_a_sealed_packet_shows_its_header_but_not_its_picture():
    sealed = SEAL.seal(PACKET.to_bytes())
    assert sealed[2:20] == PACKET.to_bytes()[2:20]
    assert b"base layer" not in sealed
    with pytest.raises(PacketError, match="is sealed"):
        Packet.from_bytes(sealed)


@pytest.mark.parametrize(
    "other",
    [
        Seal(bytes(KEY_BYTES), stream=STREAM, salt=SALT),
        Seal(KEY, stream=STREAM + "2", salt=SALT),
        Seal(KEY, stream=STREAM, salt=b"1" * 16),
    ],
    ids=["key", "stream", "start"],
)
def test_another_key_stream_or_start_opens_nothing(other):
    with pytest.raises(PacketError, match="not sealed with"):
        other.open(SEAL.seal(PACKET.to_bytes()))
    with pytest.raises(PacketError, match="not signed"):
        other.verify(SEAL.sign(b"ack", "t"), "t")


@given(st.data())
def test_a_changed_bit_anywhere_is_noticed(data):
    sealed = bytearray(SEAL.seal(PACKET.to_bytes()))
    # The checksum, bytes 20 to 23, is made anew; whoever reads the packet never sees it.
    position = data.draw(st.integers(0, len(sealed) - 1).filter(lambda at: not 20 <= at < HEADER_BYTES))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PacketError):
        SEAL.open(bytes(sealed))


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data):
    with pytest.raises(PacketError):
        SEAL.open(data)
    with pytest.raises(PacketError):
        SEAL.verify(data, "t")


def test_an_open_packet_of_a_stream_with_a_key_is_refused():
    with pytest.raises(PacketError, match="not sealed"):
        SEAL.open(PACKET.to_bytes() + bytes(TAG_BYTES))


def test_no_two_packets_have_one_nonce():
    variants = [
        PACKET,
        replace(PACKET, frame=43),
        replace(PACKET, epoch=2),
        replace(PACKET, promised=True),
        replace(PACKET, first_layer=1),
    ]
    streams = {SEAL.seal(variant.to_bytes())[HEADER_BYTES : HEADER_BYTES + 10] for variant in variants}
    assert len(streams) == len(variants)


def test_a_signed_message_is_for_one_topic():
    signed = SEAL.sign(b"payload", "a/ack")
    assert SEAL.verify(signed, "a/ack") == b"payload"
    with pytest.raises(PacketError):
        SEAL.verify(signed, "a/cmd")


def test_a_key_of_the_wrong_size_is_refused():
    with pytest.raises(UsageError, match="32 bytes"):
        Seal(b"short", stream=STREAM, salt=new_salt())


def test_a_key_file_is_private_and_never_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "sub" / "seal.key"
    new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read_key(path)) == KEY_BYTES
    with pytest.raises(InputError, match="exists"):
        new_key(path)
    monkeypatch.setenv("EDGESEM_SEAL_KEY", path.read_text().strip())
    assert read_key(None) == read_key(path)
    monkeypatch.delenv("EDGESEM_SEAL_KEY")
    assert read_key(None) is None


def test_a_secret_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "password"
    path.write_text("hush\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod") as caught:
        read_secret(path, "X")
    assert "hush" not in str(caught.value)
    path.chmod(0o640)
    assert read_secret(path, "X") == "hush"


@pytest.mark.parametrize("content", [b"", b"a\nb\n", b"\xff", b"x" * 5000])
def test_a_file_that_holds_no_secret(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="one line"):
        read_secret(path, "X")
    with pytest.raises((UsageError, InputError)):
        read_key(tmp_path / "none")


def test_an_identity_stays_the_same_and_signs(tmp_path):
    first, again = (Identity.open(tmp_path / "identity.key") for _ in range(2))
    assert first.public_key == again.public_key
    check_signature(b"hello", first.sign(b"hello"), again.public_key)
    for message, signature, key in (
        (b"hallo", first.sign(b"hello"), first.public_key),
        (b"hello", bytes(64), first.public_key),
        (b"hello", first.sign(b"hello"), bytes(32)),
        (b"hello", b"", b""),
    ):
        with pytest.raises(PacketError, match="signature"):
            check_signature(message, signature, key)


FRAMES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3000), st.integers(0, 3)), max_size=60)


@given(FRAMES)
def test_every_ordinary_layer_is_fresh_once_at_most(frames):
    replay, seen = Replay(), set()
    newest = {}
    for epoch, frame, layer in frames:
        fresh = replay.fresh(Packet(7, epoch, frame, 0, 64, 64, 9, 4, layer, (b"",)))
        recent = newest.get(epoch, frame) - frame < 1024
        assert fresh == (recent and (epoch, frame, layer) not in seen)
        seen.add((epoch, frame, layer))
        newest[epoch] = max(newest.get(epoch, 0), frame)


@given(st.permutations(range(50)))
def test_a_promised_frame_is_fresh_once_however_late_it_comes(order):
    replay = Replay()
    late = [replace(PACKET, frame=frame * 100_000, promised=True) for frame in order]
    assert all(replay.fresh(packet) for packet in late)
    assert not any(replay.fresh(packet) for packet in late)

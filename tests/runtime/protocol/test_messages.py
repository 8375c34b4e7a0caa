"""Birth, state and command: what was said is understood, and strangers' bytes are refused, whatever they are."""

import contextlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError, UsageError
from edgesem.packet.keys import Identity
from runtime.protocol.birth import MAX_BIRTH_BYTES, Birth
from runtime.protocol.command import KINDS, MAX_COMMAND_BYTES, Command, SeenCommands
from runtime.protocol.state import LIVE, MAX_STATE_BYTES, MAX_WATCH_BYTES, DataUsage, State, watch_text
from runtime.protocol.topics import Topics

BASE = "edgesem/v1/home/gate/main"
IDENTITY = Identity(bytes(32))
BIRTH = Birth(
    7, "ab" * 32, 640, 480, 2.5, 65535, b"s" * 16, 2**50, True, "edgesem 1.0", start=9, public_key=IDENTITY.public_key
)
KEY = b"k" * 32
U53 = st.integers(0, 2**53)
SECONDS = st.none() | st.integers(0, 10**9).map(lambda ms: ms / 1000)
STATES = st.builds(
    State, st.booleans(), st.integers(0, 65535), U53, st.none() | U53, SECONDS, U53, U53, U53, U53, U53, U53, SECONDS,
    U53, U53, U53, st.booleans(), U53, U53, U53,
    max_bytes=st.integers(256, 200_000), max_rate_bps=st.integers(0, 10**9),
    watch=st.none() | st.lists(st.text(max_size=100), max_size=8).map(watch_text), silent_s=st.integers(0, 86400),
)  # fmt: skip


def test_a_birth_tells_all_and_who_said_it():
    data = BIRTH.to_bytes(IDENTITY, base=BASE)
    assert len(data) <= MAX_BIRTH_BYTES
    assert Birth.from_bytes(data, base=BASE) == BIRTH


def test_a_birth_of_another_stream_or_changed_is_refused():
    data = BIRTH.to_bytes(IDENTITY, base=BASE)
    with pytest.raises(PacketError, match="signature"):
        Birth.from_bytes(data, base=BASE + "2")
    outer = cbor2.loads(data)
    outer["b"] = outer["b"].replace(b"edgesem 1.0", b"edgesem 2.0")
    with pytest.raises(PacketError, match="signature"):
        Birth.from_bytes(cbor2.dumps(outer), base=BASE)
    other = cbor2.loads(BIRTH.to_bytes(Identity(b"x" * 32), base=BASE))
    with pytest.raises(PacketError, match="signature"):
        Birth.from_bytes(cbor2.dumps({**other, "k": IDENTITY.public_key}), base=BASE)


def signed(body, **outer):
    """A birth with this body, signed with the device's key."""
    raw = cbor2.dumps(body)
    signature = IDENTITY.sign(b"edgesem birth\0" + BASE.encode() + b"\0" + raw)
    return cbor2.dumps({"b": raw, "k": IDENTITY.public_key, "s": signature, **outer})


def body_of_a_birth():
    return cbor2.loads(cbor2.loads(BIRTH.to_bytes(IDENTITY, base=BASE))["b"])


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"i": 65536}, {"w": 5000}, {"f": -1.0}, {"z": b"s"}, {"c": -1}, {"t": "1"}]
)
def test_a_signed_birth_out_of_bounds_is_refused(change):
    with pytest.raises(PacketError, match="birth"):
        Birth.from_bytes(signed({**body_of_a_birth(), **change}), base=BASE)


def test_a_birth_of_a_sealed_stream_needs_the_streams_key():
    data = BIRTH.to_bytes(IDENTITY, base=BASE, key=KEY)
    assert len(data) <= MAX_BIRTH_BYTES
    assert Birth.from_bytes(data, base=BASE, key=KEY) == Birth.from_bytes(data, base=BASE) == BIRTH
    without = BIRTH.to_bytes(IDENTITY, base=BASE)
    other = BIRTH.to_bytes(IDENTITY, base=BASE, key=b"o" * 32)
    stranger = replace(BIRTH, salt=b"x" * 16).to_bytes(Identity(b"x" * 32), base=BASE, key=b"x" * 32)
    moved = cbor2.dumps({**cbor2.loads(without), "m": cbor2.loads(BIRTH.to_bytes(IDENTITY, base="b", key=KEY))["m"]})
    for refused in (without, other, stranger, moved):
        with pytest.raises(PacketError, match="birth"):
            Birth.from_bytes(refused, base=BASE, key=KEY)


def test_a_birth_of_the_first_version_is_ordered_by_its_time():
    body = body_of_a_birth()
    del body["c"]
    assert Birth.from_bytes(signed(body), base=BASE) == replace(BIRTH, start=2**50 // 1000)


@pytest.mark.parametrize(("asked_s", "told_s"), [(10.0, 10), (300.0, 300), (0.5, 1), (float("inf"), 86400)])
def test_a_state_tells_when_the_next_one_comes_and_the_usual_interval_costs_nothing(asked_s, told_s):
    data = State(True, 1, 2, interval_s=asked_s).to_bytes()
    assert State.from_bytes(data).interval_s == told_s
    assert len(data) == len(State(True, 1, 2).to_bytes()) or told_s != 10


NEXT = {"Z": 1, "new": [{"a": b"x"}, 1.5, None]}
"""What a later program may add to a message."""


def test_entries_that_a_later_program_adds_are_skipped():
    state = State(True, 1, 2)
    assert State.from_bytes(cbor2.dumps({**cbor2.loads(state.to_bytes()), **NEXT})) == state
    for command in (Command("pause", pause_s=3.0), Command("key"), Command("roi")):
        assert Command.from_bytes(cbor2.dumps({**cbor2.loads(command.to_bytes()), **NEXT})) == command
    assert Birth.from_bytes(signed({**body_of_a_birth(), **NEXT}, **NEXT), base=BASE) == BIRTH


def test_an_entry_that_is_known_must_be_right_and_lists_lie_not_too_deep():
    state = cbor2.loads(State(True, 1, 2).to_bytes())
    deep = 1
    for _ in range(4):
        deep = [deep]
    for wrong in ({**state, "g": -1}, {**state, "u": 1}, {**state, "Z": deep}, {"Z": 1}):
        with pytest.raises(PacketError, match="state"):
            State.from_bytes(cbor2.dumps(wrong))


@pytest.mark.parametrize("tag", [0, 2, 4, 25, 28, 29, 35, 258, 55799])
def test_a_tag_is_refused_before_a_library_sees_it(tag, monkeypatch):
    monkeypatch.setattr(cbor2, "loads", lambda *_: pytest.fail("the library has read it"))
    head = (b"\xd8" + bytes([tag])) if tag < 256 else b"\xd9" + tag.to_bytes(2, "big")
    for data in (head + b"\x61a", b"\xa1\x61u" + head + b"\x00", b"\xa1" + head + b"\x61u\x00", head + b"\xa0"):
        for parse in PARSERS:
            with pytest.raises(PacketError, match="tag"):
                parse(data)


def test_eight_long_queries_that_are_not_ascii_are_understood():
    command = Command("watch", queries=("門の前の人" * 20,) * 8, vectors=(b"x" * 64,) * 8)
    data = command.to_bytes()
    assert len(data) <= MAX_COMMAND_BYTES
    assert Command.from_bytes(data) == command


@given(STATES)
def test_a_state_says_what_it_said(state):
    data = state.to_bytes()
    assert len(data) <= MAX_STATE_BYTES
    assert State.from_bytes(data) == state


def test_a_state_with_all_that_can_be_said_is_no_larger_than_a_reader_takes():
    most = {"capacity_bps": 2**53, "rtt_s": 2**53 / 1000, "age_s": 2**53 / 1000, "shrunk_percent": 99}
    counts = "window_bytes budget_bytes sent_bytes frames skipped dropped_layers promised_waiting promised_refused"
    counts += " reconnects promised_rejected promised_lost refused left_out events"
    more = {
        "masked": True,
        "grey": True,
        "denoised": True,
        "live": LIVE[1],
        "detail": (4096, 4096),
        "data": DataUsage(*[2**53] * 3),
    }
    limits = {"max_bytes": 200_000, "max_rate_bps": 10**9, "makes_events": True, "silent_s": 86400}
    state = State(
        *(True, 65535, 2**53),
        **dict.fromkeys(counts.split(), 2**53),
        **(most | more | limits),
        interval_s=86400.0,
        watch=watch_text(["車" * 100] * 8),
    )
    data = state.to_bytes()
    assert len(data) <= MAX_STATE_BYTES
    assert State.from_bytes(data) == state
    assert MAX_WATCH_BYTES - 6 < len(state.watch.encode()) <= MAX_WATCH_BYTES


def test_a_state_says_what_is_looked_for_also_if_that_is_nothing():
    assert watch_text([]) == ""
    assert watch_text(["a truck", "a dog"]) == "a truck; a dog"
    for watch in (None, "", "a truck; a dog"):
        assert State.from_bytes(State(True, 1, 2, watch=watch).to_bytes()).watch == watch
    for makes_events in (True, False):
        assert State.from_bytes(State(True, 1, 2, makes_events=makes_events).to_bytes()).makes_events == makes_events


@pytest.mark.parametrize(
    "command",
    [
        Command("snapshot", size_bytes=300),
        Command("key"),
        Command("pause", pause_s=7.5),
        Command("resume"),
        Command("roi", roi=(0.25, 0.5, 0.5, 0.5)),
        Command("region", roi=(0.5, 0.25, 0.25, 0.5), drop=255),
        Command("watch", queries=("a red car", "person"), vectors=(bytes(range(64)), b"")),
        Command("watch"),
        Command("apart"),
        Command("view", viewer=2**32 - 1, lease_s=600),
        Command("detail", roi=(0.4, 0.3, 0.2, 0.2), size_bytes=12_000),
        Command("budget", max_bytes=200_000, max_rate_bps=0),
        Command("budget", max_bytes=0),
        Command("budget", max_rate_bps=10**9),
        Command("budget"),
    ],
    ids=lambda command: command.kind,
)
def test_a_command_asks_what_it_asked(command):
    data = command.to_bytes()
    assert len(data) <= MAX_COMMAND_BYTES
    assert Command.from_bytes(data) == command


SHARES = st.floats(-0.5, 1.5)
QUERIES = st.lists(st.text(max_size=120), max_size=10).map(tuple)
VECTORS = st.lists(st.binary(min_size=64, max_size=64) | st.just(b"") | st.binary(max_size=65), max_size=10).map(tuple)


LIMITS = st.none() | st.sampled_from([-1, 0, 1, 255, 256, 200_000, 200_001, 10**9, 10**9 + 1])


@given(st.sampled_from(KINDS), st.tuples(*[SHARES] * 4), st.integers(-1, 300), QUERIES, VECTORS, LIMITS, LIMITS)
def test_what_a_command_may_ask_it_asks_and_nothing_else(kind, roi, drop, queries, vectors, max_bytes, max_rate_bps):
    limits = {"max_bytes": max_bytes, "max_rate_bps": max_rate_bps}
    try:
        command = Command(kind, roi=roi, drop=drop, queries=queries, vectors=vectors, **limits)
    except PacketError:
        return
    data = command.to_bytes()
    assert len(data) <= MAX_COMMAND_BYTES
    with contextlib.suppress(PacketError):  # letters that do not print are refused where they arrive
        again = Command.from_bytes(data)
        assert again.kind == kind
        if kind in ("roi", "region"):
            left, top, width, height = again.roi
            assert 0 <= left <= left + width <= 1 + 1e-6
            assert 0 <= top <= top + height <= 1 + 1e-6
        if kind == "region":
            assert 0 <= again.drop <= 255
        if kind == "watch":
            assert again.queries == queries
            assert len(again.vectors) in (0, len(queries))
        if kind == "budget":
            assert (again.max_bytes, again.max_rate_bps) == (max_bytes, max_rate_bps)
            assert max_bytes in (None, 0) or 256 <= max_bytes <= 200_000
            assert max_rate_bps is None or 0 <= max_rate_bps <= 10**9


@pytest.mark.parametrize(
    "fields",
    [
        {"c": "format", "i": 1},
        {"c": "region", "i": 1, "x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0, "d": 256},
        {"c": "region", "i": 1, "x": 0.5, "y": 0.0, "w": 1.0, "h": 1.0, "d": 9},
        {"c": "watch", "i": 1, "q": "x" * 101, "v": b""},
        {"c": "watch", "i": 1, "q": ";".join("abcdefghi"), "v": b""},
        {"c": "watch", "i": 1, "q": "cat", "v": bytes(65)},
        {"c": "watch", "i": 1, "q": "cat", "v": b"x" * 128},
        {"c": "watch", "i": 1, "q": "a\x00", "v": b""},
        {"c": "key"},
        {"c": "key", "i": -1},
        {"c": "snapshot", "i": 1, "b": 255},
        {"c": "snapshot", "i": 1, "b": 65536},
        {"c": "pause", "i": 1, "s": 1e9},
        {"c": "pause", "i": 1, "s": float("nan")},
        {"c": "budget", "i": 1, "b": 255},
        {"c": "budget", "i": 1, "b": 200_001},
        {"c": "budget", "i": 1, "b": 3000.0},
        {"c": "budget", "i": 1, "r": -1},
        {"c": "budget", "i": 1, "r": 10**9 + 1},
        {"c": "budget", "i": 1, "r": None},
        {"c": "roi", "i": 1, "x": 0.6, "y": 0, "w": 0.5, "h": 1},
        {"c": "roi", "i": 1, "x": 0, "y": 0, "w": 0, "h": 1},
        ["snapshot"],
        {1: 2},
    ],
)
def test_a_command_that_may_not_be_given_is_refused(fields):
    with pytest.raises(PacketError, match="command"):
        Command.from_bytes(cbor2.dumps(fields))


def test_a_command_in_a_log_is_what_was_asked_and_no_more():
    assert str(Command("budget", max_bytes=1000)) == "budget max_bytes=1000"
    assert str(Command("watch", queries=("a dog",), vectors=(bytes(range(64)),))) == "watch queries=('a dog',)"
    assert str(Command("key")) == "key"


def test_a_command_is_obeyed_once():
    seen, command = SeenCommands(), Command("key")
    assert seen.first_time(command)
    assert not seen.first_time(replace(command, kind="resume"))
    assert seen.first_time(Command("key"))


PARSERS = [State.from_bytes, Command.from_bytes, lambda data: Birth.from_bytes(data, base=BASE)]
WHOLE = [State(True, 1, 2).to_bytes(), Command("roi").to_bytes(), BIRTH.to_bytes(IDENTITY, base=BASE)]
CBOR = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("uetcrwbyfsdaplnqixkvz"), inner, max_size=16)
    ),
    max_leaves=16,
)


def changed(whole):
    """A message in which one bit is another."""
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7))
    return places.map(lambda at: whole[: at[0]] + bytes([whole[at[0]] ^ 1 << at[1]]) + whole[at[0] + 1 :])


@pytest.mark.parametrize(("parse", "whole"), list(zip(PARSERS, WHOLE, strict=True)), ids=["state", "command", "birth"])
@given(data=st.data())
def test_any_bytes_any_cbor_and_a_changed_message_are_understood_or_refused(parse, whole, data):
    with contextlib.suppress(PacketError):
        parse(data.draw(st.binary(max_size=600) | CBOR.map(cbor2.dumps) | changed(whole)))


def test_hostile_cbor_is_refused_before_it_costs_anything():
    for data in (b"\xbb" + b"\xff" * 8, b"\xa1\x61c" * 80, b"\x5b" + b"\x7f" * 8, b"\xa1" * 100_000, b"\xc2\x58\xff"):
        for parse in PARSERS:
            with pytest.raises(PacketError):
                parse(data)


@given(st.text(max_size=80))
def test_any_topic_is_ours_or_refused(text):
    for topic in (text, f"edgesem/v1/{text}", f"{BASE}/{text}"):
        try:
            topics, rest = Topics.parse(topic)
        except PacketError:
            continue
        assert f"{topics.base}/{rest}" == topic


@pytest.mark.parametrize("part", ["", "a/b", "+", "#", "x" * 65, "a\nb", "a\0"])
def test_a_name_that_is_no_topic_part_is_refused(part):
    with pytest.raises(UsageError, match="topic part"):
        Topics(stream=part)


def test_a_receivers_bundles_are_told_by_their_ids():
    command = Command("bundle", bundles=(0, 0x4E88, 0xFFFF))
    assert Command.from_bytes(command.to_bytes()) == command
    assert Command.from_bytes(Command("bundle").to_bytes()).bundles == ()
    for wrong in ((0x10000,), (-1,), tuple(range(33))):
        with pytest.raises(PacketError, match="bundles"):
            Command("bundle", bundles=wrong)
    with pytest.raises(PacketError, match="2 bytes"):
        Command.from_bytes(cbor2.dumps({"c": "bundle", "i": 1, "h": b"abc"}))

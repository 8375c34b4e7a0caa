"""Fleet status and plan: what needs attention stands first, and how streams fall to shards, at a real broker too."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.cli.main import main
from edgesem.errors import UsageError
from runtime.fleet.listener import FleetListener, HeardStream
from runtime.fleet.plan import plan
from runtime.fleet.status import fleet_status
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.clock import unix_ms
from runtime.protocol.shard import shard_of
from runtime.protocol.state import DataUsage, State
from runtime.protocol.topics import Topics
from tests.support.publishing import birth, identity, wait_for

needs_broker = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
NOW_MS = 1_800_000_000_000
FINE = State(up=True, epoch=1, time_ms=NOW_MS, age_s=1.0, capacity_bps=800_000, budget_bytes=3000)


def heard(device, state=FINE, **changes):
    made = replace(birth(sealed=False), **{"program": "edgesem 0.2.0", "fps": 1.0, **changes})
    return HeardStream(Topics("home", device, "main"), birth=made, state=state)


def names(statuses):
    return [one.stream.split("/")[1] for one in statuses]


def test_what_needs_attention_stands_first():
    streams = [
        heard("ok"),
        heard("a-paused", replace(FINE, paused=True, age_s=999.0)),
        heard("b-old", program="edgesem 0.1.0"),
        heard("c-bundle", bundle_id=9),
        heard("d-waiting", replace(FINE, promised_waiting=3)),
        heard("e-late", replace(FINE, age_s=50.0)),
        heard("f-budget", replace(FINE, data=DataUsage(10, 0, 20))),
        heard("g-full", replace(FINE, promised_refused=1)),
        heard("h-lost", replace(FINE, promised_lost=1)),
        heard("i-silent", replace(FINE, time_ms=NOW_MS - 60_000)),
        heard("j-gone", replace(FINE, up=False)),
    ]
    found = fleet_status(streams, now_ms=NOW_MS)
    assert names(found) == [one.topics.device for one in reversed(streams)]
    assert found[-1].attention == ""
    assert [one.urgency > 0 for one in found] == [True] * 10 + [False]


def test_a_camera_that_nobody_watches_may_be_late():
    idle, watched = (heard(live, replace(FINE, age_s=50.0, live=live)) for live in ("idle", "watched"))
    assert [one.urgency > 0 for one in fleet_status([idle, watched], now_ms=NOW_MS)] == [True, False]
    assert names(fleet_status([idle, watched], now_ms=NOW_MS)) == ["watched", "idle"]


def test_a_slow_camera_may_be_late():
    slow = heard("slow", replace(FINE, age_s=50.0), fps=1 / 60)
    assert fleet_status([slow], now_ms=NOW_MS)[0].urgency == 0
    assert fleet_status([heard("new", replace(FINE, age_s=None))], now_ms=NOW_MS)[0].attention.startswith("no receiver")


def test_the_inventory_says_who_is_missing_and_who_is_new():
    groups = {"home/gate/main": ["north"], "home/door/main": []}
    found = fleet_status([heard("gate"), heard("stranger")], now_ms=NOW_MS, groups=groups)
    assert [(name, one.attention) for name, one in zip(names(found), found, strict=True)] == [
        ("door", "never heard"),
        ("stranger", "not in the inventory"),
        ("gate", ""),
    ]
    assert found[-1].groups == ("north",)


def test_a_sender_that_just_spoke_is_not_silent_whatever_its_clock_says():
    listener, topics = FleetListener(), Topics("home", "x", "main")
    for time_ms in (1000, 11_000):
        listener.take(topics.state, State(True, 1, time_ms, age_s=1.0).to_bytes())
    [stream] = listener.heard()
    heard_s = stream.last_state[0]
    assert fleet_status([stream], now_ms=NOW_MS, now_s=heard_s)[0].urgency == 0
    [late] = fleet_status([stream], now_ms=NOW_MS, now_s=heard_s + 31)
    assert (late.urgency, late.said_s) == (90, 31)
    assert late.attention.startswith("silent")


def test_a_sender_that_starts_anew_is_counted_anew():
    listener, topics = FleetListener(), Topics("home", "x", "main")
    for epoch, frames in ((1, 0), (1, 500), (2, 10), (2, 20)):
        listener.take(topics.state, State(True, epoch, 1000 * epoch + frames, frames=frames).to_bytes())
    [stream] = listener.heard()
    (first_s, first), (last_s, last) = stream.first_state, stream.last_state
    assert (first.epoch, first.frames, last.frames) == (2, 10, 20)
    assert stream.fps == 10 / (last_s - first_s)


def test_a_camera_whose_messages_were_deleted_is_forgotten():
    listener, topics = FleetListener(), Topics("home", "x", "main")
    made = birth(sealed=False).to_bytes(identity(), base=topics.base)
    for topic in (topics.birth, topics.state):
        listener.take(topics.birth, made)
        listener.take(topics.state, FINE.to_bytes())
        listener.take(topic, b"")
        assert len(listener.heard()) == 1
    listener.take(topics.birth, b"")
    assert listener.heard() == []
    listener.take(topics.birth, b"")
    assert listener.malformed == 0


def test_the_last_event_of_a_stream_is_shown():
    listener, topics = FleetListener(), Topics("home", "x", "main")
    listener.take(topics.state, FINE.to_bytes())
    for time_ms, label in ((NOW_MS - 5000, "a dog"), (NOW_MS - 9000, "earlier"), (NOW_MS - 2000, "")):
        event = {"id": "0" * 8, "time_ms": time_ms, "cause": "watch", "label": label}
        listener.take(f"{topics.base}/event", json.dumps(event).encode())
    [seen] = fleet_status(listener.heard(), now_ms=NOW_MS)
    assert (seen.event, seen.event_s) == ("watch", 2.0)
    for wrong in (b"[]", b"{}", b'{"time_ms": -1, "cause": "", "label": ""}', b"[" * 4000, b" " * 5000):
        listener.take(f"{topics.base}/event", wrong)
    assert listener.malformed == 5


@given(st.sampled_from(["birth", "state", "ack", "event", "pkt/0", "x"]), st.binary(max_size=80))
def test_no_message_does_harm(kind, payload):
    listener = FleetListener(acks=True)
    listener.take(f"edgesem/v1/home/a/main/{kind}", payload)
    listener.take(kind, payload)


def test_a_plan_adds_up_what_was_measured():
    streams = [Topics("home", f"cam{number}", "main") for number in range(40)]
    measured = heard("cam0", fps=2.0)
    measured.decode_ms = [10, 30, 20]
    made = plan(streams, 4, {measured.topics.base: measured}, fps=0.5)
    assert [len(one.streams) for one in made.shards] == [
        sum(shard_of(topics, 4) == index for topics in streams) for index in range(4)
    ]
    assert made.measured == 1
    assert sum(one.pictures_per_s for one in made.shards) == pytest.approx(2.0 + 39 * 0.5)
    assert sum(one.cores for one in made.shards) == pytest.approx(0.020 * (2.0 + 39 * 0.5))
    assert made.moving == sum(shard_of(one, 4) != shard_of(one, 5) for one in streams)
    assert plan(streams, 1, {}, fps=1, decode_s=0.1).shards[0].cores == pytest.approx(4.0)


@pytest.mark.parametrize("missing", [{"decode_s": 0.1}, {"fps": 1.0}])
def test_a_plan_without_measurements_asks_for_them(missing):
    with pytest.raises(UsageError, match="name --"):
        plan([Topics("home", "a", "main")], 2, {}, **missing)
    with pytest.raises(UsageError, match="no stream"):
        plan([], 2, {}, fps=1.0, decode_s=1.0)


@needs_broker
def test_status_plan_and_groups_at_a_broker(tmp_path, capsys):
    (tmp_path / "fleet.toml").write_text(
        '[devices."home/a"]\ngroups = ["north"]\n[devices."home/b"]\ngroups = ["north"]\n'
    )
    with Broker(kind="mosquitto") as broker:
        (tmp_path / "password").write_text(broker.address.password)
        (tmp_path / "password").chmod(0o600)
        there = ["--port", broker.address.port, "--user", broker.address.user, "--password-file", tmp_path / "password"]

        def run(*args):
            code = main([str(arg) for arg in (*args, *there, "--json")])
            return code, json.loads(capsys.readouterr().out)

        topics, heard_commands = Topics("home", "a", "main"), []
        with Connection(
            broker.address, name="a", subscribe=topics.cmd, on_message=lambda *message: heard_commands.append(message)
        ) as camera:
            made = replace(birth(sealed=False), program="edgesem 0.2.0", fps=2.0)
            camera.publish(topics.birth, made.to_bytes(identity(), base=topics.base), retain=True)
            state = State(up=True, epoch=1, time_ms=unix_ms(), age_s=0.5, capacity_bps=64_000)
            camera.publish(topics.state, state.to_bytes(), retain=True)
            code, result = run("fleet", "status", "--seconds", 1, "--check")
            assert (code, [one["attention"] for one in result["cameras"]]) == (0, [""])
            [seen] = result["cameras"]
            assert (seen["stream"], seen["link_bps"], seen["bundle"], seen["version"]) == (
                *("home/a/main", 64_000, f"{made.bundle_id:04x}"),
                "edgesem 0.2.0",
            )
            code, result = run(
                "fleet", "status", "--check", "--seconds", 1, "--inventory", tmp_path / "fleet.toml", "--group", "north"
            )
            assert code == 1
            assert [one["attention"] for one in result["cameras"]] == ["never heard", ""]
            camera.publish(topics.ack, Ack(1, 1, 0, 0, 25).to_bytes(), retain=True)  # retained, so that it is heard
            code, result = run("fleet", "plan", "--shards", 3, "--seconds", 1, "--inventory", tmp_path / "fleet.toml")
            assert (code, result["streams"], result["measured"]) == (0, 2, 1)
            assert sum(one["cores"] for one in result["shards"]) == pytest.approx(2 * 2.0 * 0.025)
            gone = State(up=False, epoch=1, time_ms=unix_ms())
            camera.publish(Topics("home", "b", "main").state, gone.to_bytes(), retain=True)
            code, result = run("ask", "pause", "--group", "north", "--inventory", tmp_path / "fleet.toml")
            assert code == 1
            assert [(one["stream"], one["asked"]) for one in result["streams"]] == [
                ("home/a/main", True),
                ("home/b/main", False),
            ]
            wait_for(lambda: heard_commands)
            assert [topic for topic, _ in heard_commands] == [topics.cmd]
            for wrong in (
                ["ask", "pause"],
                ["ask", "pause", "home/a/main", "--group", "north"],
                ["ask", "key", "--group", "n"],
            ):
                assert run(*wrong)[0] == 2

"""Load run over real parts: what is counted is what was shown, also where a receiver is killed in the middle."""

import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from edgesem.cli.main import main
from runtime.bench.fleet.figures import (
    DarkStream,
    Delays,
    Kill,
    dark_of,
    dark_s,
    dark_streams,
    over_time,
    repeated,
    what_binds,
)
from runtime.bench.fleet.process_use import ProcessUse
from runtime.bench.fleet.rabbit_cluster import RABBITMQ, RabbitCluster
from runtime.bench.fleet.receiver_process import Shown
from runtime.bench.link.namespace import missing
from runtime.mqtt.mosquitto import find_tool
from tests.support.publishing import wait_for

SHOWN = Shown("s/a/main", 1, 0, False, 0.1, 0.0)


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.long)])
def test_all_promised_frames_are_shown_once_also_by_a_killed_receiver(capsys, kill):
    seconds = 6 if kill else 4
    run = f"bench fleet --cameras 8 --seconds {seconds} --interval 1 --warm-up 2 --promise-every 2 --receivers 2 --json"
    assert main([*run.split(), *(["--kill-receivers", "2"] if kill else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {kind: dark["kills"] for kind, dark in found["dark"].items()} == ({"receiver": 2} if kill else {})
    # Keyframes that a receiver asked for: started anew, or told of a camera before that camera's first frame came
    asked = found["sent"] - 8 * (2 + seconds)
    assert 0 <= asked <= 8
    assert found["promised"] == pytest.approx(8 * (2 + seconds) // 2, abs=asked)
    assert (found["promised_lost"], found["promised_shown_twice"]) == (0, 0)
    assert found["sent"] / 2 <= found["pictures"] <= found["sent"]
    assert found["not_shown"] == found["sent"] - found["pictures"]
    assert 0 < found["inter_share"] < 0.5  # of the half that is not promised
    assert found["missing_reference"] <= (8 if kill else 0)
    assert len(found["dark_streams"]) == 8
    assert 0 < found["delay"]["p50_s"] <= found["delay"]["p99_s"]
    assert all(found["parts"][part]["rss_bytes"] > 1e6 for part in ("broker", "receivers", "decoders", "cameras"))
    assert 0 < found["heard_of_others"] < 1
    assert found["parts"]["cameras"]["cores"] < 1
    (node,) = found["nodes"]
    # From cameras to the broker, and to a receiver: at least this, and little more for births, states and acks.
    frames_bytes = found["sent"] * found["packet_bytes"]
    assert frames_bytes < node["received_bytes"] < 2 * frames_bytes
    assert found["pictures"] * found["packet_bytes"] < node["sent_bytes"] < 2 * frames_bytes


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize("broker", ["mosquitto", "rabbitmq"])
def test_promised_frames_survive_kills_of_nodes_and_receivers(capsys, broker):
    """EDGESEM_KILLS (2) says how many of each kind; EDGESEM_SECONDS (60, for RabbitMQ 120) how long cameras film."""
    if broker == "mosquitto" and find_tool("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    if broker == "rabbitmq" and not (RABBITMQ.exists() and find_tool("epmd")):
        pytest.skip("RabbitMQ is not installed")
    kills = os.environ.get("EDGESEM_KILLS", "2")
    seconds = os.environ.get("EDGESEM_SECONDS", "60" if broker == "mosquitto" else "120")
    words = ["bench", "fleet", "--cameras", "12", "--seconds", seconds, "--interval", "2", "--promise-every", "2"]
    words += [
        "--warm-up",
        "0",
        "--kill-nodes",
        kills,
        "--kill-receivers",
        kills,
        *(["--rabbitmq"] if broker == "rabbitmq" else []),
    ]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    print(json.dumps(found["dark"]))
    assert {kind: dark["kills"] for kind, dark in found["dark"].items()} == {"node": int(kills), "receiver": int(kills)}
    assert found["promised"] > 0
    assert (found["promised_lost"], found["promised_shown_twice"]) == (0, 0)
    assert len(found["nodes"]) == (1 if broker == "mosquitto" else 3)
    received_bytes = sum(node["received_bytes"] for node in found["nodes"])
    assert received_bytes > found["sent"] * found["packet_bytes"]  # also what nodes have had before they were killed


@pytest.mark.long
@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_a_receiver_is_added_while_cameras_film(capsys):
    words = "bench fleet --cameras 12 --seconds 40 --interval 1 --promise-every 2 --warm-up 2 --add-receiver --json"
    assert main(words.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dark"]["move"]["kills"] == 2
    assert found["dark"]["move"]["streams"] == 12  # each was one of the two that were restarted
    assert found["promised_lost"] == 0


@pytest.mark.long
@pytest.mark.skipif(not (RABBITMQ.exists() and find_tool("epmd")), reason="RabbitMQ is not installed")
@pytest.mark.skipif(bool(missing()), reason=f"no network namespaces: {missing()}")
def test_promised_frames_survive_a_node_that_is_cut_off(capsys):
    """Three nodes in network namespaces; the link of one is taken down."""
    words = "bench fleet --cameras 12 --seconds 60 --interval 2 --promise-every 2 --warm-up 10 --rabbitmq --namespaces"
    assert main([*words.split(), "--cut-nodes", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dark"]["link"]["kills"] == 1
    assert found["promised"] > 0
    assert (found["promised_lost"], found["promised_shown_twice"]) == (0, 0)
    assert f"edgesem{os.getpid()}" not in os.listdir("/sys/class/net")


@pytest.mark.long
@pytest.mark.skipif(not (RABBITMQ.exists() and find_tool("epmd")), reason="RabbitMQ is not installed")
def test_no_part_of_a_cluster_outlives_it_even_one_that_hangs(tmp_path):
    cluster = RabbitCluster(tmp_path / "broker", "", count=1)
    pids = cluster.pids()
    for pid in pids[1:]:
        if os.getpgid(pid) == pids[0]:  # Erlang itself; its helpers end when it does
            os.kill(pid, signal.SIGSTOP)
    cluster.end()

    def running(pid):
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    wait_for(lambda: not any(map(running, pids)))


@pytest.mark.parametrize("words", ["--namespaces", "--rabbitmq --cut-nodes 1"])
def test_what_needs_namespaces_is_said(capsys, words):
    assert main(["bench", "fleet", *words.split()]) == 2
    assert "namespaces" in capsys.readouterr().err


def test_a_run_shorter_than_an_interval_is_refused(capsys):
    assert main(["bench", "fleet", "--cameras", "2", "--seconds", "5", "--interval", "10"]) == 2
    assert "not every camera sends" in capsys.readouterr().err


def test_what_was_shown_twice_and_how_long_a_stream_was_dark():
    again = replace(SHOWN, promised=True)
    assert repeated([again, again, replace(again, frame=1), SHOWN, SHOWN, SHOWN], promised=True) == 1
    seen = [replace(SHOWN, frame=number, received_s=at) for number, at in enumerate((0.0, 1.0, 2.0, 7.0, 8.0))]
    other = replace(SHOWN, stream="s/b/main", received_s=50.0)  # not seen before
    assert dark_s([*seen, other], since_s=2.5, until_s=9.0, interval_s=1.0) == [4.0]
    assert dark_s(seen[:3], since_s=2.5, until_s=9.0, interval_s=1.0) == [6.0]  # it never came back
    told = dark_of([Kill("node", 0, 2.5), Kill("receiver", 5, 2.5)], seen, 1.0, 2, 9.0)
    assert told["node"] == {"kills": 1, "streams": 1, "p50_s": 4.0, "p95_s": 4.0, "max_s": 4.0}
    assert told["receiver"]["streams"] == 0
    assert Delays.of([replace(SHOWN, delay_s=value / 100) for value in range(101)]).p95_s == pytest.approx(0.95)


def test_each_stream_tells_how_long_it_was_dark():
    times = {"s/a/main": (1.0, 2.0, 7.0, 8.0), "s/b/main": (1.5, 4.0, 6.4, 12.0), "s/d/main": (0.5, *range(1, 10))}
    shown = [replace(SHOWN, stream=name, received_s=at_s) for name, seen in times.items() for at_s in seen]
    names = [*times, "s/c/main"]  # the last was never seen
    told = {one.stream: one for one in dark_streams(reversed(shown), names, began_s=0.0, seconds=10.0, interval_s=1.0)}
    assert [*told] == ["s/c/main", "s/b/main", "s/a/main", "s/d/main"]
    assert told["s/c/main"] == DarkStream("s/c/main", 1, 9.0, 9.0)
    assert told["s/b/main"] == DarkStream("s/b/main", 3, pytest.approx(1.5 + 1.4 + 2.6), pytest.approx(2.6))
    assert told["s/a/main"] == DarkStream(
        "s/a/main", 1, 4.0, 4.0
    )  # at its end, a second is no longer than its interval
    assert told["s/d/main"] == DarkStream("s/d/main", 0, 0.0, 0.0)


def test_delays_are_told_over_the_time_of_the_run():
    shown = [
        replace(SHOWN, stream=f"s/{number % 2}/main", delay_s=delay_s, received_s=100 + at_s + delay_s)
        for number, (at_s, delay_s) in enumerate([(0, 12.0), (4, 11.0), (5, 0.1), (14, 0.3), (-0.01, 0.1)])
    ]
    first, second = over_time(shown, 100.0, 10.0)
    assert (first["from_s"], first["pictures"], first["max_s"], first["late_streams"]) == (0, 4, 12.0, 2)
    assert (second["from_s"], second["pictures"], second["p50_s"], second["late_streams"]) == (10, 1, 0.3, 0)


def test_what_binds_is_said():
    def binds(broker_s, decoders_s, others=0.0):
        uses = {"broker": ProcessUse(broker_s), "decoders": ProcessUse(decoders_s)}
        return what_binds(uses, seconds=10, processors=2, others_cores=others, single=["broker"])

    assert binds(1, 2).startswith("nothing yet; most goes to decoders")
    assert binds(9, 2).startswith("broker")
    assert "processors are full" in binds(1, 16)
    assert "others" in binds(1, 5, others=1.2)

"""The link bench: trace parsers, the queue of the emulated link, figures, and runs over real namespaces."""

import json
import queue
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.codec.options import PackOptions
from edgesem.errors import BudgetError, InputError, UsageError
from edgesem.packet.packet import Packet
from edgesem.trace import load_trace, parse_trace
from runtime.bench.link.baselines import SENDERS, make_control
from runtime.bench.link.bench import Options, run_sender, why_relay
from runtime.bench.link.clip import Clip, ClipCodec, load_images, placeholder, read_clip, write_clip
from runtime.bench.link.figures import RunLog, figures
from runtime.bench.link.link_queue import LinkQueue
from runtime.bench.link.namespace import RECEIVER_IP, missing
from runtime.process.child import Child
from tests.support.traces import trace_of

WAIT_S = 20


def test_a_mahimahi_trace_has_1500_bytes_a_line():
    trace = parse_trace("t", b"0\n0\n10\n19\n")
    assert trace.duration_s == pytest.approx(0.02)
    assert trace.between_bytes(0, 0.02) == 6000
    assert trace.between_bytes(0.02, 0.06) == 12_000  # it repeats
    assert trace.between_bytes(0, 0.001) == 3000


def test_a_throughput_trace_holds_each_rate_until_the_next_line():
    trace = parse_trace("t", b"5.0\t1.0\n6.0\t2.0\n7.0 0.5\n")
    assert trace.duration_s == pytest.approx(3)
    assert trace.between_bytes(0, 1) == pytest.approx(125_000)
    assert trace.between_bytes(0.5, 1.5) == pytest.approx(187_500)
    assert trace.mean_bps == pytest.approx(3.5e6 / 3)


def test_a_rate_is_a_trace_too(tmp_path):
    assert load_trace("200kbit").mean_bps == pytest.approx(200e3)
    path = tmp_path / "some.up"
    path.write_bytes(b"1\n2\n")
    assert load_trace(str(path)).name == "some.up"
    with pytest.raises(UsageError, match="neither a file nor a rate"):
        load_trace(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"a\n", "row 1"),
        (b"1\n2 3\n", "row 2"),
        (b"1 2 3\n", "3 columns"),
        (b"2\n1\n", "backwards"),
        (b"-1\n", "from 0 on"),
        (b"nan\n", "from 0 on"),
        (b"1e300\n", "at most"),
        (b"0 1e300\n", "at most"),
        (b"0 0\n1 0\n", "nothing through"),
        (b"\xff\n", "not a text"),
    ],
)
def test_what_is_no_trace_is_refused(data, words):
    with pytest.raises(InputError, match=words) as said:
        parse_trace("t", data)
    assert len(str(said.value)) < 120


@given(st.binary(max_size=200) | st.text("0123456789. \n-einfa\t", max_size=200).map(str.encode))
def test_any_bytes_are_a_trace_or_an_input_error(data):
    try:
        trace = parse_trace("t", data)
    except InputError:
        return
    assert trace.mean_bps > 0
    assert len(trace.bytes_per_ms) <= 2 * 3600 * 1000 * 2


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=50),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(20, 1500)), max_size=40),
)
def test_a_link_carries_everything_in_order_and_no_faster_than_its_trace(opportunities, packets):
    trace = parse_trace("t", "".join(f"{ms}\n" for ms in sorted(opportunities)).encode())
    link = LinkQueue(trace=trace, start_s=0.0, delay_s=0.02)
    sent = sorted((at_s, bytes([number]) * size) for number, (at_s, size) in enumerate(packets))
    came = []
    waiting = list(sent)
    for ms in range(60_000):
        now_s = ms / 1000
        while waiting and waiting[0][0] <= now_s:
            link.put(waiting.pop(0)[1], now_s)
        came += link.take(now_s)
        assert sum(map(len, came)) <= trace.between_bytes(0, now_s) + 1e-6
        if len(came) == len(sent):
            break
    assert came == [packet for _, packet in sent]


def test_a_link_delays_drops_what_does_not_fit_and_loses_by_chance():
    link = LinkQueue(trace=trace_of(8e6), start_s=0.0, delay_s=0.05, queue_bytes=2000)
    for _ in range(3):
        link.put(bytes(1000), 0.0)
    assert link.dropped_packets == 1
    assert link.take(0.04) == []
    assert len(link.take(0.06)) == 2
    lossy = LinkQueue(trace=None, start_s=0.0, loss=0.5)
    for _ in range(1000):
        lossy.put(b"x", 0.0)
    assert 400 < lossy.dropped_packets < 600


def test_before_its_start_a_link_only_delays():
    link = LinkQueue(trace=trace_of(8e3), start_s=5.0, delay_s=0.05)
    link.put(bytes(1000), 0.0)
    assert len(link.take(0.051)) == 1
    link.put(bytes(1000), 5.0)
    assert link.take(5.9) == []
    assert len(link.take(6.1)) == 1


def test_the_camera_of_the_built_in_clip_stands_still():
    first, second, *_ = images = load_images(None, 4, 10)
    moved = np.any(first != second, axis=2)
    assert 0 < moved.mean() < 0.1
    assert {image.shape for image in images} == {first.shape}


def packets(sizes):
    return [
        Packet(7, 0, 0, 0, 64, 64, q, 4, 0, (bytes((size - 30) // 4),) * 4)
        for q, size in zip(range(0, 250, 250 // len(sizes)), sizes, strict=False)
    ]


@pytest.fixture
def clip():
    rows = [packets([600, 2000, 6000, 12_000, 25_000])] * 2
    qualities = np.linspace(0.5, 0.95, 5)[None, :, None] + np.array([-0.1, -0.05, -0.02, 0])[None, None]
    return Clip(rows, np.repeat(qualities, 2, 0), np.array([[1.0, 0.8], [0.8, 1.0]]))


def test_a_clip_runs_forwards_and_backwards_and_survives_its_file(clip, tmp_path):
    assert [clip.index(tick) for tick in range(5)] == [0, 1, 0, 1, 0]
    write_clip(clip, tmp_path / "clip.npz")
    back = read_clip(tmp_path / "clip.npz")
    assert back.packets == clip.packets
    assert np.array_equal(back.qualities, clip.qualities)


def test_the_clips_codec_fills_a_budget_and_says_what_is_the_least(clip):
    codec = ClipCodec(clip)
    packet = codec.pack(
        codec.analyze(placeholder(1)), budget_bytes=7000, options=PackOptions(epoch=3, frame=9, time_ms=5)
    )
    assert 5900 < packet.size_bytes <= 7000
    assert (packet.epoch, packet.frame, packet.time_ms) == (3, 9, 5)
    with pytest.raises(BudgetError) as caught:
        codec.pack(0, budget_bytes=100, options=PackOptions())
    assert 500 < caught.value.smallest_bytes <= 600


def log_of(clip, arrivals, captured_s, whole_only=False):
    events = [{"event": "packed", "frame": number, "name": str(number)} for number in range(len(captured_s))]
    return RunLog(
        clip=clip,
        trace=trace_of(80e3),
        offset_s=0.0,
        start_s=100.0,
        fps=1,
        seconds=4,
        sender={"begin_s": 100.0, "captured_s": captured_s, "events": events, "states": [], "undelivered": 0},
        receiver={"arrivals": arrivals, "promised": []},
        whole_only=whole_only,
    )


def test_figures_of_a_run_worked_out_by_hand(clip):
    captured_s = [100.0, 101.0, 102.0, 103.0]
    arrivals = [[100.2, 0, 0, 1, 0, 150, 40], [100.5, 0, 1, 1, 0, 150, 40], [102.4, 2, 0, 1, 0, 150, 40]]
    result = figures(log_of(clip, arrivals, captured_s))
    assert result["base_delay_p50_s"] == pytest.approx(0.3)
    assert result["last_delay_p95_s"] == pytest.approx(0.495)
    assert result["skipped"] == 2
    assert result["usable_bps"] == pytest.approx(80e3)  # 10 kB a second fit a frame
    assert result["usable_share"] == pytest.approx(3 * 195 / 40_000)
    assert result["age_p95_s"] == pytest.approx(2.2, abs=0.02)
    # Frame 0 with 2 of 4 layers after 0.3 s of patience, then frame 2; worth 0.8 while the camera sees frame 1.
    expected = [0, 0, 0.4, 0.4, *[0.8 * 0.45] * 4, 0.45, 0.45, 0.45, 0.4, *[0.8 * 0.4] * 4]
    assert result["quality"] == pytest.approx(np.mean(expected))


def test_where_frames_cannot_be_larger_all_that_they_are_sent_in_is_usable(clip):
    packets = clip.packets[0][4].split()
    arrivals = [[100.2, 0, part.first_layer, 1, 0, part.size_bytes, 40] for part in packets]
    log = log_of(clip, arrivals, [100.0, 101.0, 102.0, 103.0])
    assert figures(replace(log, trace=trace_of(8e6)))["usable_share"] == pytest.approx(0.25, rel=0.001)


def test_without_layers_a_frame_counts_only_when_it_is_whole(clip):
    arrivals = [[100.2 + layer / 10, 0, layer, 1, 0, 150, 40] for layer in range(4)] + [[102.4, 2, 0, 1, 0, 150, 40]]
    result = figures(log_of(clip, arrivals, [100.0, 101.0, 102.0, 103.0], whole_only=True))
    assert result["base_delay_p95_s"] == pytest.approx(0.5)
    assert result["skipped"] == 3


@pytest.mark.parametrize("name", SENDERS)
def test_each_control_gives_budgets_that_a_sender_can_use(name):
    control = make_control(name, interval_s=0.1, trace=trace_of(1e6), start_s=0.0, offset_s=0.0)
    control.connected(0.0, 0.05)
    budget_bytes = control.budget_bytes(0.0)
    assert 300 <= budget_bytes <= 30_000
    assert control.room(0.0, size_bytes=1000, base=True)
    control.sent(0.0, size_bytes=1000, base=True)
    control.acked(0.1, size_bytes=1000, sent_s=0.0)
    assert "capacity_bps" in control.state()


def test_the_oracle_sends_what_drains_by_the_next_frame():
    control = make_control("oracle", interval_s=0.1, trace=trace_of(1e6), start_s=0.0, offset_s=0.0)
    first = control.budget_bytes(1.0)
    assert first == pytest.approx(12_500 * 1448 / 1500 - 8 * 52, abs=2)
    control.sent(1.0, size_bytes=first, base=True)
    assert control.budget_bytes(1.0) is None
    assert control.budget_bytes(1.1) == pytest.approx(first, abs=2)


needs_namespaces = pytest.mark.skipif(bool(why_relay()), reason=f"no emulated link here: {why_relay()}")


@pytest.mark.skipif(bool(missing()), reason=f"no namespaces here: {missing()}")
def test_packets_cross_the_emulated_link_late_and_its_settings_may_change(tmp_path):
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    events = queue.Queue()
    job = {"trace": "1mbit", "delay_s": 0.04, "settings": str(settings)}
    probe = (
        "import socket, sys, time\n"
        "from runtime.bench.link.namespace import enter_network\n"
        "enter_network(sys.argv[1])\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "sock.settimeout(5); sock.connect((sys.argv[2], 9))\n"
        "start = time.monotonic()\n"
        "try: sock.send(b'x'); sock.recv(1)\n"  # the answer is ICMP: nobody listens there
        "except ConnectionRefusedError: print(time.monotonic() - start)\n"
    )
    with Child(name="link", module="runtime.bench.link.emulator", job=job, folder=tmp_path, events=events):
        name, ready = events.get(timeout=WAIT_S)
        assert ready["event"] == "ready", (name, ready)

        def round_trip_s():
            argv = [sys.executable, "-c", probe, ready["sender"], RECEIVER_IP]
            return float(subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout)

        assert 0.08 <= round_trip_s() < 0.5
        settings.write_text(json.dumps({"delay_s": 0.4}))
        assert any(round_trip_s() >= 0.8 for _ in range(3))  # it looks ten times a second


@needs_namespaces
def test_a_run_over_real_tcp_and_a_real_broker(clip):
    options = Options(trace="400kbit", seconds=6, congestion="cubic", promise_every=20)
    outcome = run_sender("edgesem", clip=clip, trace=load_trace("400kbit"), options=options)
    result = outcome.figures
    assert result["frames"] == 60
    assert result["usable_share"] > 0.4  # 0.9 on an idle machine
    assert 0.025 < result["base_delay_p50_s"] < 1
    assert result["promised"] == 3
    assert result["lost_promised"] == 0
    assert 0.3 < result["quality"] < 1
    assert len(outcome.series["time_s"]) == 12


def test_without_namespaces_a_relay_does(clip):
    options = Options(trace="400kbit", seconds=5)
    outcome = run_sender("edgesem", clip=clip, trace=load_trace("400kbit"), options=options, relay=True)
    assert outcome.figures["usable_share"] > 0.2
    assert outcome.figures["skipped"] < 50

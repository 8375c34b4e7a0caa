"""bench link --model: the real sender pipeline and figures in simulated time, the same each time, for anybody."""

import json

import numpy as np
import pytest

from edgesem.cli.main import main
from edgesem.errors import UsageError
from edgesem.packet.packet import Packet
from edgesem.trace import Trace
from runtime.bench.link import bench
from runtime.bench.link.baselines import SENDERS
from runtime.bench.link.bench import Options
from runtime.bench.link.clip import Clip
from runtime.bench.link.model import run_model
from tests.support.traces import trace_of


@pytest.fixture(scope="module")
def clip():
    """Two frames at 24 sizes, 0.8 to 20 KB; their layers are of one size, and the base layer is worth 0.8 of all."""
    steps = np.arange(24)
    packets = [
        [
            Packet(7, 0, 0, 0, 64, 64, int(10 * step), 4, 0, tuple(bytes(int(200 * 1.15**step)) for _ in range(4)))
            for step in steps
        ]
        for _ in range(2)
    ]
    worth = np.array([0.8, 0.9, 0.97, 1.0])
    qualities = np.tile((0.8 + 0.006 * steps)[:, None] * worth, (2, 1, 1))
    return Clip(packets, qualities, np.array([[1.0, 0.95], [0.95, 1.0]]))


def run(sender, clip, trace, **more):
    return run_model(sender, clip=clip, trace=trace, options=Options(trace="", seconds=20, **more)).figures


@pytest.mark.parametrize("sender", SENDERS)
def test_each_sender_can_be_modelled_and_is_the_same_each_time(clip, sender):
    first, second = (run(sender, clip, trace_of(400e3)) for _ in range(2))
    assert first == second
    assert first["frames"] == 200
    assert 0.3 < first["usable_share"] <= 1
    assert 0.5 < first["quality"] < 1


def test_on_a_steady_link_edgesem_is_sooner_than_whole_frames_and_no_worse(clip):
    ours, whole = (run(sender, clip, trace_of(600e3)) for sender in ("edgesem", "whole"))
    assert ours["base_delay_p95_s"] < 0.8 * whole["base_delay_p95_s"]
    assert ours["quality"] > whole["quality"] - 0.003
    assert ours["usable_share"] > 0.85


def test_where_the_link_stops_and_goes_a_base_layer_alone_replaces_nothing_fuller(clip):
    per_ms = np.full(3000, 600e3 / 8000)
    per_ms[1000:1180] = per_ms[2000:2400] = 0  # stops of 180 and 400 ms
    ours = run("edgesem", clip, Trace("stops", per_ms))
    assert ours["quality"] > run("whole", clip, Trace("stops", per_ms))["quality"]
    assert ours["skipped"] < 40


def test_what_is_not_modelled_is_refused(clip):
    for more in ({"loss": 0.1}, {"promise_every": 5}):
        with pytest.raises(UsageError, match="--model"):
            run("edgesem", clip, trace_of(400e3), **more)
    assert main(["bench", "link", "--trace", "100kbit", "--model", "--references"]) == 2


def test_the_command_needs_no_namespaces(clip, capsys, monkeypatch):
    monkeypatch.setattr("runtime.bench.link.clip.load_clip", lambda *_: clip)
    monkeypatch.setattr(bench, "why_relay", lambda: pytest.fail("asked for namespaces"))
    assert main(["bench", "link", "--trace", "300kbit", "--seconds", "5", "--model", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["about"]["link"] == "model"
    assert set(SENDERS) <= set(found)


def test_a_folder_that_cannot_be_made_ends_the_bench_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    argv = ["--trace", "300kbit", "--seconds", "5", "--model", "--out", str(tmp_path / "file")]
    assert main(["bench", "link", *argv]) == 1
    assert str(tmp_path / "file") in "".join(capsys.readouterr().err.split())
    assert not (tmp_path / "cache").exists()  # nothing was encoded

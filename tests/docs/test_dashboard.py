"""The Grafana dashboard and the alert rules in docs/: they ask for metrics that there are, and leave none out."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from runtime.daemon import receiver_metrics, sender_metrics
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.streams import Streams
from runtime.sender.counters import Counters
from runtime.web.gallery import Gallery
from tests.support import dashboard
from tests.support.publishing import plain

client = pytest.importorskip("prometheus_client")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
DOCS = dashboard.PATH.parent
ALERTS = DOCS / "edgesem-alerts.yml"
STATE = State(True, 1, 0, capacity_bps=64_000, rtt_s=0.1, age_s=1.0)

NOT_DRAWN: dict[str, str] = {}
"""Metrics that need no panel, with the reason."""


def series(collector):
    """The names of what Prometheus gets; `_created` is of the library."""
    registry = client.CollectorRegistry()
    registry.register(collector)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    names |= {family.name for family in registry.collect() if family.type == "gauge"}
    return {name for name in names if not name.endswith("_created")}


def all_series():
    streams = Streams(bundle_ids=[7], publish=lambda *_: None)
    streams.on_message("edgesem/v1/home/cam/main/pkt/0", plain(1).prefix(1).to_bytes())
    streams.on_message("edgesem/v1/home/cam/main/state", STATE.to_bytes())
    receiver = SimpleNamespace(streams=streams, connection=SimpleNamespace(connected=True), decoders=1)
    pipeline = SimpleNamespace(state=lambda: STATE, counters=Counters())
    return series(receiver_metrics._Collector(receiver, Gallery())) | series(
        sender_metrics._Collector(pipeline, Topics())
    )


def test_every_metric_has_a_panel_or_a_reason():
    drawn = {name for end in ("sender", "receiver", "state") for name in dashboard.metrics(end)}
    assert all_series() - drawn == set(NOT_DRAWN)
    assert drawn - all_series() == set()


def test_what_a_sender_says_of_itself_a_receiver_says_too():
    names = all_series()
    of_state = {name.removeprefix("edgesem_state_") for name in names if name.startswith("edgesem_state_")}
    of_sender = {name.removeprefix("edgesem_sender_") for name in names if name.startswith("edgesem_sender_")}
    assert of_sender - of_state == {"encode_seconds_count", "encode_seconds_sum", "other_bundle_total"}
    assert of_state <= of_sender


def test_alert_rules_ask_for_metrics_that_there_are():
    asked = set(re.findall(r"\bedgesem_\w+", ALERTS.read_text("utf-8")))
    assert asked - all_series() == set()
    assert len(asked) > 10


@needs_promtool
def test_promtool_takes_the_scrape_configuration_the_rules_and_the_dashboards_queries(tmp_path):
    shutil.copy(ALERTS, tmp_path)
    guide = (DOCS / "guides" / "operations.md").read_text("utf-8")
    example = guide.partition("```yaml\n# prometheus.yml\n")[2].partition("```")[0]
    (tmp_path / "prometheus.yml").write_text(example, "utf-8")
    promtool("check", "config", tmp_path / "prometheus.yml")
    queries = [expr.replace("$__rate_interval", "5m") for expr in dashboard.queries()]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    assert f"{len(queries)} rules found" in promtool("check", "rules", tmp_path / "queries.yml")


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before(tmp_path):
    stream = 'site="home",device="gate",stream="main"'
    labels = {"site": "home", "device": "gate", "stream": "main"}

    def alert(name, minutes, fires, severity="warning"):
        expected = [{"exp_labels": {**labels, "severity": severity}}] if fires else []
        return {"eval_time": f"{minutes}m", "alertname": name, "exp_alerts": expected}

    def series_of(name, values):
        return {"series": f"{name}{{{stream}}}", "values": values}

    cases = [
        {
            "interval": "1m",
            "input_series": [
                series_of("edgesem_receiver_picture_age_seconds", "0+60x60"),
                series_of("edgesem_state_paused", "0x19 1x40"),
                series_of("edgesem_state_spooled_frames", "3x60"),
                series_of("edgesem_receiver_two_senders", "0x9 1x50"),
                series_of("edgesem_state_data_spent_bytes", "0+1000000x60"),
                series_of("edgesem_state_data_left_bytes", "50000000-1000000x60"),
                series_of("edgesem_state_shrunk_percent", "50x130"),
                series_of("edgesem_state_masked", "1x19 0x40"),
            ],
            "alert_rule_test": [
                alert("EdgesemPictureOld", 9, False),
                alert("EdgesemPictureOld", 12, True),
                alert("EdgesemPictureOld", 30, False),  # paused: no wonder
                alert("EdgesemPromisesWait", 40, True),
                alert("EdgesemTwoSenders", 5, False),
                alert("EdgesemTwoSenders", 12, True),
                alert("EdgesemDataLow", 40, False),
                alert("EdgesemDataLow", 49, True),
                alert("EdgesemPictureShrunk", 30, False),
                alert("EdgesemPictureShrunk", 90, True),
                alert("EdgesemMaskGone", 15, False),
                alert("EdgesemMaskGone", 25, True, "critical"),
            ],
        }
    ]
    rules = re.sub(r"\n *annotations:\n *summary: .*", "", ALERTS.read_text("utf-8"))  # words are not compared
    (tmp_path / "rules.yml").write_text(rules, "utf-8")
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": cases}), "utf-8")
    promtool("test", "rules", tmp_path / "test.yml")


def promtool(*args):
    run = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout

"""The receiver's HTTP server: the live page in a browser, pictures, figures, metrics and settings."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.command import Command
from runtime.protocol.state import State
from tests.support import dashboard
from tests.support.publishing import DEADLINE_S, codec, wait_for
from tests.support.receive_daemon import Camera, ReceiveDaemon

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def broker():
    with Broker(kind="mosquitto") as running:
        yield running


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read()


def post(url, headers=None, **what):
    request = urllib.request.Request(
        url, json.dumps(what).encode(), headers={"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def watched(broker):
    """A receiver with a live page, and the camera that it shows."""
    with Camera(broker, "page") as camera, ReceiveDaemon(broker, "test/page/+", "--http", "0") as daemon:
        state = State(True, 1, 0, capacity_bps=64_000, rtt_s=0.05, budget_bytes=1500, frames=3)
        camera.connection.publish(camera.topics.state, state.to_bytes())
        camera.send_until_heard()
        daemon.next("picture")
        yield camera, daemon


def test_http_serves_pictures_figures_metrics_and_takes_settings(watched):
    camera, daemon = watched
    url = daemon.url
    told = wait_for(lambda: json.loads(get(f"{url}streams.json"))["streams"])[0]
    assert told["name"] == "test/page/main"
    assert told["state"]["capacity_bps"] == 64_000
    assert {"capacity_bps", "budget_bytes", "size_bytes", "delay_s"} <= {
        name for one in told["samples"] for name in one
    }
    assert get(f"{url}test/page/main.jpg")[:2] == b"\xff\xd8"
    with urllib.request.urlopen(f"{url}test/page/main.mjpg", timeout=DEADLINE_S) as stream:
        assert stream.readline() == b"--edgesem-picture\r\n"
    metrics = get(f"{url}metrics").decode()
    assert 'edgesem_receiver_layers_total{device="page",site="test",stream="main"}' in metrics
    assert {name for name in dashboard.metrics("receiver") if f"\n{name}" not in metrics} == set()
    assert post(f"{url}settings", stream="test/page/main", realism=0.5) == (200, {"steps": 0, "realism": 0.5})
    for wrong in ({"steps": 5}, {"realism": 7}, {"realism": "much"}, {"steps": True}):
        status, answer = post(f"{url}settings", stream="test/page/main", **wrong)
        assert (status, "error" in answer) == (400, True)
    assert post(f"{url}settings", stream="nobody")[0] == 404
    assert post(f"{url}snapshot", stream="test/page/main", size_bytes=4000)[0] == 202
    command = Command.from_bytes(camera.commands.get(timeout=DEADLINE_S))
    assert (command.kind, command.size_bytes) == ("snapshot", 4000)


def test_http_refuses_other_pages_and_outsized_requests(watched):
    _, daemon = watched
    url = daemon.url
    assert url.startswith("http://127.0.0.1:")
    assert post(f"{url}snapshot", {"Origin": "http://evil.example"}, stream="test/page/main")[0] == 403
    assert post(f"{url}snapshot", {"Host": "evil.example"}, stream="test/page/main")[0] == 403
    assert post(f"{url}snapshot", {"Content-Type": "text/plain"}, stream="test/page/main")[0] == 415
    assert post(f"{url}snapshot", stream="x" * 5000)[0] == 413
    assert post(f"{url}snapshot", stream=["list"])[0] in (400, 404)
    for path in ("nothing", "../edgesem/keys.py", "test/page/main.gif", "%2e%2e/x.jpg", "page/index.html"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{url}{path}")
        refused.value.close()
        assert refused.value.code == 404


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_wall(watched, tmp_path):
    _, daemon = watched
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=3000",
    ]
    shown = subprocess.run(
        [CHROMIUM, *arguments, "--virtual-time-budget=3000", "--dump-dom", daemon.url],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
    ).stdout
    assert 'data-stream="test/page/main"' in shown
    assert "1 stream" in shown
    assert "160×112" in shown
    assert "64 kbit/s" in shown
    assert 'src="/test/page/main.jpg?' in shown
    if not codec().has_flow:
        assert "this bundle has no flow decoder" in shown

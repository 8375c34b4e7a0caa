"""The fleet page of the real command, over HTTP and in a real browser: a phone and a desktop."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.clock import unix_ms
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from tests.support.browser import CHROMIUM, Browser
from tests.support.publishing import DEADLINE_S, birth, identity, wait_for

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
DESKTOP, PHONE = (1440, 900), (390, 844)
AXE = os.environ.get("EDGESEM_AXE")
COUNT = 30
GONE, LATE = 20, 7


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """URL of the page of thirty cameras and one that was never heard, and the connection that speaks for them."""
    folder = tmp_path_factory.mktemp("fleet")
    inventory = "".join(f'[devices."home/cam{number}"]\ngroups = ["g{number % 2}"]\n' for number in range(COUNT + 1))
    (folder / "fleet.toml").write_text(inventory)
    with Broker(kind="mosquitto") as broker, Connection(broker.address, name="cameras") as link:
        (folder / "password").write_text(broker.address.password)
        (folder / "password").chmod(0o600)
        login = ["--port", broker.address.port, "--user", broker.address.user, "--password-file", folder / "password"]
        words = ["fleet", "status", "--http", "0", "--inventory", folder / "fleet.toml", *login, "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        try:
            url = json.loads(process.stdout.readline())["url"]
            for number in range(COUNT):
                topics = Topics("home", f"cam{number}", "main")
                made = replace(birth(sealed=False), program="edgesem 0.2.0", fps=1.0)
                link.publish(topics.birth, made.to_bytes(identity(), base=topics.base), retain=True)
                state = State(number != GONE, 1, unix_ms(), age_s=60.0 if number == LATE else 1.0, interval_s=300.0)
                link.publish(topics.state, replace(state, capacity_bps=64_000).to_bytes(), retain=True)
            wait_for(lambda: len([one for one in get(url)["cameras"] if one["bundle"]]) == COUNT)
            yield url, link
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
            process.stdout.close()


def get(url):
    with urllib.request.urlopen(f"{url}fleet.json", timeout=DEADLINE_S) as answer:
        return json.loads(answer.read())


def test_all_cameras_are_there_those_first_that_need_attention(fleet):
    url, link = fleet
    told = get(url)
    assert told["trouble"] == ""
    attention = {one["stream"].split("/")[1]: one["attention"] for one in told["cameras"][:3]}
    assert list(attention) == ["cam20", "cam30", "cam7"]
    assert (attention["cam30"], attention["cam7"]) == ("never heard", "its newest picture is 60 s old")
    event = {"time_ms": unix_ms(), "cause": "watch", "label": "a dog"}
    link.publish(f"{Topics('home', 'cam3', 'main').base}/event", json.dumps(event).encode())
    wait_for(lambda: [one["event"] for one in get(url)["cameras"] if one["event"]] == ["a dog"])


def test_other_pages_and_other_paths_are_refused(fleet):
    url, _ = fleet
    for path, headers, code in (
        ("x", {}, 404),
        ("fleet.json", {"Origin": "http://other"}, 403),
        ("", {"Host": "x"}, 403),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{url}{path}", headers=headers), timeout=DEADLINE_S)
        assert refused.value.code == code
        refused.value.close()
    asked = urllib.request.Request(f"{url}ask", b"{}", {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(asked, timeout=DEADLINE_S)
    refused.value.close()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_shows_finds_and_filters(fleet, tmp_path, size):
    def rows(browser):
        return browser.evaluate("[...document.querySelectorAll('tbody th')].map((one) => one.textContent)")

    def put(browser, script):
        change = "box.dispatchEvent(new Event('input')); 0"
        browser.evaluate(f"(() => {{ const box = document.querySelector('#find'); {script}; {change} }})()")

    with Browser(tmp_path) as browser:
        browser.open(fleet[0], *size)
        browser.until(f"document.querySelectorAll('tbody tr').length == {COUNT + 1}")
        assert rows(browser)[:3] == ["home/cam20/main", "home/cam30/main", "home/cam7/main"]
        assert browser.evaluate("document.querySelector('#summary').textContent") == "31 cameras, 3 need attention"
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        text = browser.evaluate("document.querySelector('tbody tr:nth-child(3)').innerText")
        assert all(
            word in text for word in ("60 s old", "64.0 kbit/s" if "64.0" in text else "64 kbit/s", "edgesem 0.2.0")
        )
        put(browser, "ill.checked = true")
        assert len(rows(browser)) == 3
        put(browser, "ill.checked = false; group.value = 'g1'")
        assert len(rows(browser)) == COUNT // 2
        put(browser, "group.value = ''; box.value = 'never'")
        assert rows(browser) == ["home/cam30/main"]
        put(browser, "box.value = 'nothing like it'")
        assert browser.evaluate("nothing.hidden") is False
        if AXE:
            assert browser.axe(Path(AXE).read_text()) == []
        assert browser.complaints == []

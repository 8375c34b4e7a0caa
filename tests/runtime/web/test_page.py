"""The live page in a real browser: one camera and twenty, a phone and a desktop, eyes, keyboard and screen reader."""

import http.server
import json
import os
import threading
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.clock import clock_ms
from runtime.protocol.state import DataUsage, State
from runtime.protocol.topics import Topics
from tests.support.browser import CHROMIUM, Browser
from tests.support.publishing import DEADLINE_S, birth, codec, frame, identity, wait_for
from tests.support.receive_daemon import ReceiveDaemon

AXE = os.environ.get("EDGESEM_AXE")
DESKTOP, PHONE = (1440, 900), (390, 844)
CAMERAS = [Topics("wall", f"camera-{number:02}", "main") for number in range(20)]
GONE, MARKED, SAVING = CAMERAS[7], CAMERAS[3], CAMERAS[5]

pytestmark = [
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read()


def state_of(topics):
    """What a camera says of itself; three have something to tell. None is silent before these tests end."""
    if topics is MARKED:
        return State(True, 1, clock_ms(), masked=True, grey=True, shrunk_percent=50, interval_s=300.0)
    data = DataUsage(46_000_000, 4_000_000, 49_000_000) if topics is SAVING else None
    return State(topics is not GONE, 1, clock_ms(), capacity_bps=64_000, budget_bytes=1500, data=data, interval_s=300.0)


@pytest.fixture(scope="module")
def walls():
    """Two receivers with live pages, by the number of cameras that each shows."""
    with Broker(kind="mosquitto") as broker, ExitStack() as stack:
        enter = stack.enter_context
        twenty = enter(ReceiveDaemon(broker, "wall/+/main", "--http", "0"))
        one = enter(ReceiveDaemon(broker, "wall/camera-00/main", "--http", "0"))
        connection = enter(Connection(broker.address, name="cameras"))
        for topics in CAMERAS:
            born = birth(sealed=False, bundle_id=codec().bundle.id)
            connection.publish(topics.birth, born.to_bytes(identity(), base=topics.base))
            connection.publish(topics.state, state_of(topics).to_bytes())
        number, missing = 0, {(daemon, topics) for daemon in (one, twenty) for topics in CAMERAS}
        missing -= {(one, topics) for topics in CAMERAS[1:]}

        def all_are_shown():
            nonlocal number
            shown = {
                (daemon, stream["name"])
                for daemon in (one, twenty)
                for stream in json.loads(get(f"{daemon.url}streams.json?samples="))["streams"]
                if stream["picture"] and stream["state"]
            }
            left = [(daemon, topics) for daemon, topics in missing if (daemon, name_of(topics)) not in shown]
            for topics in {topics for _, topics in left}:
                connection.publish(topics.layer(0), frame(number).to_bytes())
            number += 1
            return not left

        wait_for(all_are_shown)
        yield {1: one, 20: twenty}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running
        assert running.complaints == []


@pytest.fixture
def wall(walls, browser):
    """The browser with a wall of twenty cameras on a desktop."""
    shown(browser, walls[20], 20)
    return browser


def name_of(topics):
    return f"{topics.site}/{topics.device}/{topics.stream}"


def shown(browser, daemon, cameras, size=DESKTOP, scheme="dark", fragment=""):
    """Open a receiver's page and wait for its pictures."""
    browser.open(f"{daemon.url}{fragment}", *size, scheme=scheme)
    browser.until(f"document.querySelectorAll('[data-stream]').length == {cameras}")
    browser.until("[...document.querySelectorAll('.tile img[src]')].filter((one) => one.naturalWidth).length > 0")


def order(browser):
    """The names of the cameras that are shown, in their order."""
    return browser.evaluate(
        "[...document.querySelectorAll('[data-stream]:not([hidden])')].map((one) => one.dataset.stream)"
    )


def choose(browser, select, value):
    browser.evaluate(f"{select}.value = '{value}'; {select}.dispatchEvent(new Event('change'))")


def focused(browser):
    """What has the focus: its id or stream."""
    return browser.evaluate(
        "(({ id, parentElement }) => id || parentElement.dataset.stream)(document.activeElement ?? document.body)"
    )


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("cameras", [1, 20])
def test_the_wall_is_compact(walls, browser, cameras, size):
    most_pixels = {"wall": 1900, "list": 1400} if (cameras, size) == (20, PHONE) else {"wall": size[1], "list": size[1]}
    shown(browser, walls[cameras], cameras, size)
    for view in ("wall", "list"):
        choose(browser, "view", view)
        assert browser.evaluate("document.documentElement.scrollHeight") <= most_pixels[view], view
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0], view
        text = browser.evaluate("document.querySelector('[data-stream=\"wall/camera-00/main\"]').innerText")
        assert "wall/camera-00/main" in text
        assert " old" in text
    choose(browser, "view", "wall")


def test_pictures_out_of_sight_are_fetched_when_they_come_into_sight(walls, browser):
    shown(browser, walls[20], 20, PHONE)
    assert not browser.evaluate("document.querySelector('#wall > :last-child img').hasAttribute('src')")
    browser.evaluate("document.querySelector('#wall > :last-child').scrollIntoView()")
    browser.until("document.querySelector('#wall > :last-child img').naturalWidth")


def test_each_picture_is_loaded_whole_before_the_next_is_asked_for(wall):
    """The latest is asked for once the one before is there, and not before; those between are left out."""
    asked = wall.evaluate("""
        import("./picture.js").then(({ Picture }) => new Promise((told) => {
          const picture = new Picture(document.querySelector("#wall > li"));
          const show = (number) => picture.draw({ ...stream, picture: { ...stream.picture, number } });
          const { stream } = document.querySelector("#wall > li").tile;
          picture.image = new Image();
          const asked = [];
          for (const number of [1, 2, 3]) {
            show(number);
            asked.push(picture.image.src.split("-").at(-1));
          }
          picture.image.addEventListener("load", () => {
            show(4);
            told([...asked, picture.image.src.split("-").at(-1)]);
          }, { once: true });
        }))
    """)
    assert asked == ["1", "1", "1", "4"]


def test_a_page_that_nobody_sees_asks_for_nothing(wall):
    """The page counts its own questions; what it does not see it would not ask for a second later either."""
    wall.evaluate("""
      {
        window.asked = 0;
        const { fetch } = window;
        window.fetch = (...all) => { window.asked += 1; return fetch(...all); };
        Object.defineProperty(document, "hidden", { get: () => window.isHidden, configurable: true });
        const see = (isSeen) => { window.isHidden = !isSeen; document.dispatchEvent(new Event("visibilitychange")); };
        window.see = see;
        see(true);
      }
    """)
    wall.until("window.asked > 1")
    asked = wall.evaluate("see(false), window.asked")
    wall.evaluate("new Promise((done) => setTimeout(done, 2500))")  # two of its seconds
    assert wall.evaluate("window.asked") <= asked + 1  # one may have been under way
    wall.evaluate("see(true)")
    wall.until(f"window.asked > {asked + 1}")


def test_trouble_comes_first_and_the_search_finds_names_troubles_and_marks(wall):
    assert order(wall)[0] == name_of(GONE)
    wall.until("summary.textContent == '20 cameras, 1 in trouble'")
    choose(wall, "sort", "name")
    assert order(wall) == [name_of(topics) for topics in CAMERAS]
    choose(wall, "sort", "trouble")
    wall.evaluate("document.getElementById('find').focus()")
    for text, names in {"camera-1": CAMERAS[10:], "gone": [GONE], "mask GREY": [MARKED]}.items():
        wall.evaluate("document.getElementById('find').value = ''")
        wall.write(text)
        assert sorted(order(wall)) == [name_of(topics) for topics in names]
    wall.write("nowhere")
    assert wall.evaluate("!nothing.hidden && nothing.innerText") == "No camera matches."


def test_details_of_a_camera_on_demand(walls, browser):
    shown(browser, walls[20], 20, PHONE, fragment=f"#{name_of(SAVING)}")
    browser.until("details.open && details.querySelector('img').naturalWidth")
    text = browser.until("details.innerText.includes('64 kbit/s') && details.innerText")
    for part in (name_of(SAVING), "160×112", "46.0 MB of 50.0 MB spent, 4.0 MB left, 49.0 MB forecast"):
        assert part in text
    assert browser.evaluate("details.querySelector('.download').download").startswith("wall_camera-05_main-")
    assert ("meter", "Data budget") in browser.roles()
    assert browser.evaluate("details.querySelector('.line').getAttribute('d')")
    if not codec().has_flow:
        assert "this bundle has no flow decoder" in text
    browser.evaluate("details.querySelector('.snapshot').click()")
    browser.until("details.querySelector('.answer').textContent == 'snapshot asked for'")
    browser.evaluate(f"location.hash = '{name_of(MARKED)}'")
    browser.until(f"details.querySelector('h2').textContent == '{name_of(MARKED)}'")
    browser.until("details.querySelector('.badges').innerText.split('\\n').join() == 'mask on,grey,shrunk to 50 %'")
    assert browser.evaluate("details.querySelector('.budget').hidden")


def test_all_can_be_done_with_the_keyboard(wall):
    names = order(wall)
    for expected in ("find", "sort", "view", "theme", "whole", names[0], names[1]):
        wall.press("Tab")
        assert focused(wall) == expected
    wall.press("Enter")
    wall.until("details.open")
    for _ in range(12):
        wall.press("Tab")
        assert wall.evaluate("details.contains(document.activeElement) || document.activeElement == document.body")
    wall.evaluate("details.querySelector('.close').focus()")
    wall.press("ArrowRight")
    wall.until(f"details.querySelector('h2').textContent == '{names[2]}'")
    wall.press("Escape")
    wall.until("!details.open && !location.hash")
    assert focused(wall) == names[2]
    wall.press("Tab", shift=True)
    assert focused(wall) == names[1]


def test_back_leaves_the_details(wall):
    wall.evaluate("document.querySelector('.tile').click()")
    wall.until("details.open")
    wall.evaluate("history.back()")
    wall.until("!details.open && !location.hash")


def test_full_screen(wall):
    wall.evaluate("whole.click()")
    wall.until("document.fullscreenElement == document.documentElement")
    wall.evaluate("whole.click()")
    wall.until("!document.fullscreenElement")


def test_a_screen_reader_is_told_the_name_of_everything(wall):
    told = wall.roles()
    assert sum(role == "link" and "wall/camera-" in name and " old" in name for role, name in told) == 20
    wall.evaluate("document.querySelector('.tile').click()")
    wall.until("details.open")
    told += wall.roles()
    operable = ("link", "button", "combobox", "searchbox", "slider", "dialog", "meter", "list", "image")
    assert {role for role, _ in told} >= {"link", "button", "combobox", "searchbox", "slider", "dialog", "list", "main"}
    assert [one for one in told if one[0] in operable and not one[1]] == []
    assert wall.evaluate("[...document.images].every((one) => one.hasAttribute('alt'))")


# Text whose contrast to what is behind it is below 4.5; what is behind a picture may be white or black.
CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (color, [red, green, blue]) => {
    canvas.fillStyle = `rgb(${red} ${green} ${blue})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (node, start) => over(getComputedStyle(node).backgroundColor,
    node.matches(".screen") ? start : node.parentElement ? behind(node.parentElement, start) : start);
  const light = (color) => color.map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = node.matches("input, select") ? node.value : [...node.childNodes].filter((one) => one.nodeType === 3)
      .map((one) => one.data.trim()).join("");
    if (!text || !node.checkVisibility() || node.disabled || node.matches("option, [type=range]")) continue;
    for (const start of [[0, 0, 0], [255, 255, 255]]) {
      const paper = behind(node, start);
      const [one, other] = [light(over(getComputedStyle(node).color, paper)), light(paper)].sort();
      const ratio = (other + 0.05) / (one + 0.05);
      if (ratio < 4.5) bad.push([node.className || node.tagName, text, ratio]);
    }
  }
  return bad;
})()
"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read(walls, browser, scheme):
    shown(browser, walls[20], 20, scheme=scheme)
    for view in ("list", "wall"):
        choose(browser, "view", view)
        assert browser.evaluate(CONTRAST) == [], view
    browser.evaluate(f"location.hash = '{name_of(SAVING)}'")
    browser.until("details.open")
    assert browser.evaluate(CONTRAST) == []


def test_colours_are_those_of_the_system_unless_others_are_chosen(walls, wall):
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = wall.evaluate(paper)
    wall.prefer("light")
    light = wall.until(f"{paper} != '{dark}' && {paper}")
    choose(wall, "theme", "dark")
    shown(wall, walls[20], 20, scheme="light")
    assert wall.evaluate(f"theme.value == 'dark' && {paper}") == dark
    choose(wall, "theme", "")
    assert wall.evaluate(paper) == light


def test_samples_are_those_that_were_asked_for(walls):
    url, name = f"{walls[20].url}streams.json?samples=", name_of(CAMERAS[0])
    assert {bool(one["samples"]) for one in json.loads(get(url))["streams"]} == {False}
    told = json.loads(get(url + name))["streams"]
    assert {one["name"] for one in told if one["samples"]} == {name}
    assert {one["interval_s"] for one in told} == {1.0}


class Proxy(http.server.BaseHTTPRequestHandler):
    """Has a receiver's page in a folder."""

    target = ""

    def do_GET(self):
        if not self.path.startswith("/cameras/"):
            return self.send_error(404)
        with urllib.request.urlopen(self.target + self.path.removeprefix("/cameras/"), timeout=DEADLINE_S) as answer:
            body = answer.read()
            self.send_response(200)
            for name in ("Content-Type", "Content-Security-Policy", "X-Content-Type-Options"):
                self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        return None

    def log_message(self, *_):
        pass


def test_the_page_works_in_a_folder_of_a_proxy(walls, browser):
    handler = type("Handler", (Proxy,), {"target": walls[20].url})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/cameras/"
            browser.open(url, *DESKTOP)
            browser.until("document.querySelector('.tile img')?.naturalWidth")
            assert browser.complaints == []
            browser.evaluate("location.href = 'about:blank'")  # or it would go on asking
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(not AXE, reason="EDGESEM_AXE names no axe.min.js (npm install axe-core)")
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing(walls, browser, scheme, size):
    shown(browser, walls[20], 20, size, scheme)
    for script in (
        "",
        "view.value = 'list'; view.dispatchEvent(new Event('change'))",
        "view.value = 'events'; view.dispatchEvent(new Event('change'))",
        "location.hash = 'wall/camera-05/main'",
    ):
        browser.evaluate(f"{script}; 0")
        assert browser.axe(Path(AXE).read_text(encoding="utf-8")) == []
    choose(browser, "view", "wall")


def test_pictures_age_while_the_receiver_does_not_answer(walls, browser):
    """The last test of this file: it ends a receiver."""
    shown(browser, walls[1], 1)
    walls[1].process.kill()
    browser.until("summary.textContent.startsWith('the receiver does not answer')")
    age = "Number.parseFloat(document.querySelector('.age').textContent)"
    before = browser.evaluate(age)
    browser.until(f"{age} > {before}")
    browser.complaints.clear()

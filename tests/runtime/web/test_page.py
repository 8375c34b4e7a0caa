"""The live page in a real browser: one camera and twenty, a phone and a desktop."""

import http.server
import json
import threading
import urllib.request

import pytest

from tests.support.browser import DESKTOP, PHONE, needs_chromium
from tests.support.publishing import DEADLINE_S, codec
from tests.support.real_broker import needs_mosquitto
from tests.support.wall import CAMERAS, GONE, MARKED, SAVING, choose, order, shown
from tests.support.web_client import get

pytestmark = [needs_mosquitto, needs_chromium]


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


def test_few_cameras_have_larger_pictures(walls, browser):
    wide = []
    for cameras in (1, 20):
        shown(browser, walls[cameras], cameras, DESKTOP)
        wide.append(browser.evaluate("document.querySelector('#wall > li').offsetWidth"))
    assert wide[0] >= 400
    assert wide[1] < 300


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
    assert order(wall)[0] == GONE.name
    wall.until("summary.textContent == '20 cameras, 1 in trouble'")
    choose(wall, "sort", "name")
    assert order(wall) == [topics.name for topics in CAMERAS]
    choose(wall, "sort", "trouble")
    wall.evaluate("document.getElementById('find').focus()")
    for text, names in {"camera-1": CAMERAS[10:], "gone": [GONE], "mask GREY": [MARKED]}.items():
        wall.evaluate("document.getElementById('find').value = ''")
        wall.write(text)
        assert sorted(order(wall)) == [topics.name for topics in names]
    wall.write("nowhere")
    assert wall.evaluate("!nothing.hidden && nothing.innerText") == "No camera matches."


def test_details_of_a_camera_on_demand(walls, browser):
    shown(browser, walls[20], 20, PHONE, fragment=f"#{SAVING.name}")
    browser.until("details.open && details.querySelector('img').naturalWidth")
    text = browser.until("details.innerText.includes('64 kbit/s') && details.innerText")
    for part in (SAVING.name, "160×112", "46.0 MB of 50.0 MB spent, 4.0 MB left, 49.0 MB forecast"):
        assert part in text
    assert browser.evaluate("details.querySelector('.download').download").startswith("wall_camera-05_main-")
    assert ("meter", "Data budget") in browser.roles()
    assert browser.evaluate("details.querySelector('.line').getAttribute('d')")
    if not codec().has_flow:
        assert "this bundle has no flow decoder" in text
    browser.evaluate("details.querySelector('.snapshot').click()")
    browser.until("details.querySelector('.answer').textContent == 'snapshot asked for'")
    browser.evaluate(f"location.hash = '{MARKED.name}'")
    browser.until(f"details.querySelector('h2').textContent == '{MARKED.name}'")
    browser.until("details.querySelector('.badges').innerText.split('\\n').join() == 'mask on,grey,shrunk to 50 %'")
    assert browser.evaluate("details.querySelector('.budget').hidden")


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


def test_samples_are_those_that_were_asked_for(walls):
    url, name = f"{walls[20].url}streams.json?samples=", CAMERAS[0].name
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
            browser.leave()
        finally:
            server.shutdown()
            thread.join()


def test_pictures_age_while_the_receiver_does_not_answer(walls, browser):
    """The last test of this file: it ends a receiver."""
    shown(browser, walls[1], 1)
    walls[1].process.kill()
    browser.until("summary.textContent.startsWith('the receiver does not answer')")
    age = "Number.parseFloat(document.querySelector('.age').textContent)"
    before = browser.evaluate(age)
    browser.until(f"{age} > {before}")
    browser.leave()
    browser.complaints.clear()

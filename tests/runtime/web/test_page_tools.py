"""What the live page's details offer, in a real browser: looking back, events, choosing a part, drawing a mask."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgesem.packet.detail_mark import DetailMark
from edgesem.packet.event_mark import CAUSES, EventMark
from runtime.capture.privacy_mask import PrivacyMask
from runtime.mqtt.loopback_broker import Broker
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.receiver.archive import Archive
from tests.support.browser import AXE, DESKTOP, PHONE, needs_chromium
from tests.support.publishing import DEADLINE_S, frame
from tests.support.real_broker import needs_mosquitto
from tests.support.receive_daemon import Camera, ReceiveDaemon

NOW_S = time.time()
GATE = "test/gate/main"
STATE = State(True, 1, 0, detail=(640, 448), interval_s=300.0, makes_events=True, max_bytes=2500)

pytestmark = [needs_mosquitto, needs_chromium]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A camera, and a receiver that has kept a picture of it each ten minutes of the last day but for six hours."""
    out = tmp_path_factory.mktemp("received")
    with Archive(out) as archive:
        for number in range(144):
            if not 50 <= number < 86:
                archive.add(GATE, frame(number), NOW_S - 86400 + 600 * number)
    with (
        Broker(kind="mosquitto") as broker,
        Camera(broker, "gate") as camera,
        ReceiveDaemon(broker, "test/+/+", "--http", "0", "--out", str(out)) as daemon,
    ):
        camera.send_until_heard(1000)
        camera.send(frame(2000))
        daemon.next("picture")
        camera.connection.publish(camera.topics.state, STATE.to_bytes())
        for number, cause, label in ((1, "watch", "a person at the gate"), (2, "change", "")):
            for place in range(3):
                mark = EventMark(number, place, 1000 * place, CAUSES.index(cause), place == 2, label)
                camera.send(with_mark(frame(3000 + 10 * number + place, promised=True), event=mark))
        yield camera, daemon


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request, served, browser):
    """The browser with the details of a camera, whose strip has been filled."""
    browser.open(f"{served[1].url}#{GATE}", *request.param, scheme="dark")
    browser.until("details.open && details.querySelector('img').naturalWidth")
    browser.until("details.querySelector('.kept').getAttribute('d')")
    return browser


def with_mark(packet, **marks):
    return replace(packet, side_info=replace(packet.side_info, **marks))


def shown(page):
    """Where the picture that is shown comes from."""
    return page.evaluate("details.querySelector('img').src")


def fill(page, selector, value, event="change"):
    """Set what a control says, as somebody would."""
    page.evaluate(
        f"(one => {{ one.value = {json.dumps(value)}; one.dispatchEvent(new Event('{event}')) }})"
        f"(details.querySelector('{selector}'))"
    )


def scrub(page, value):
    fill(page, ".when", value, "input")


def test_the_last_day_is_a_strip_that_is_scrubbed(page):
    parts = page.evaluate("details.querySelector('.kept').getAttribute('d').split('M').length - 1")
    assert 106 <= parts <= 109
    assert page.evaluate("details.querySelector('.at').textContent") == "live"
    scrub(page, 60)
    page.until("details.querySelector('img').src.startsWith('blob:') && details.querySelector('img').naturalWidth")
    at = page.evaluate("details.querySelector('.at').textContent")
    assert at.count(":") == 2
    assert page.evaluate("details.querySelector('.age').textContent") == at
    assert page.evaluate("details.querySelector('.when').ariaValueText").count(":") == 2
    link = page.evaluate("(({ href, download }) => [href, download])(details.querySelector('.download'))")
    assert link[0] == shown(page)
    assert link[1].startswith("test_gate_main-")
    scrub(page, 130)  # within the hours of which nothing is kept
    page.until("details.querySelector('.at').textContent.includes(', none after it until ')")
    page.evaluate("details.querySelector('.live').click()")
    page.until(
        "details.querySelector('img').src.includes('/test/gate/main.jpg?') && details.querySelector('img').naturalWidth"
    )
    assert page.evaluate("details.querySelector('.at').textContent") == "live"


def test_a_scrub_asks_only_for_what_it_shows(page):
    """While one picture is on its way, the places that are passed are left out, and the last is asked for."""
    page.evaluate("""
      {
        window.asked = [];
        const { fetch } = window;
        window.fetch = (what, ...rest) => {
          const at = new URL(what, document.baseURI).searchParams.get("at");
          if (at) window.asked.push(at);
          return fetch(what, ...rest);
        };
        const when = details.querySelector(".when");
        for (let value = 10; value <= 90; value += 1) {
          when.value = value;
          when.dispatchEvent(new Event("input"));
        }
      }
    """)
    page.until("window.asked.length == 2 && details.querySelector('.at').textContent.includes(':')")
    page.evaluate("new Promise((done) => setTimeout(done, 500))")
    assert page.evaluate("window.asked.length") == 2


def test_a_picture_in_full_screen_has_its_strip(page):
    page.evaluate("details.querySelector('.full').click()")
    page.until("document.fullscreenElement?.contains(details.querySelector('.when'))")
    page.until("details.querySelector('.look').clientHeight > 0.9 * innerHeight")
    assert page.evaluate("details.querySelector('.when').checkVisibility()")
    page.evaluate("document.exitFullscreen()")
    page.until("!document.fullscreenElement")


def test_the_strip_is_used_by_keyboard_and_zoomed(page):
    page.evaluate("details.querySelector('.when').focus()")
    page.press("Home")
    page.until("details.querySelector('img').src.startsWith('blob:')")
    first = page.evaluate("details.querySelector('.at').textContent")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.until(f"!['…', {first!r}].includes(details.querySelector('.at').textContent)")
    assert page.evaluate("details.querySelector('h2').textContent") == GATE  # not the next camera
    fill(page, ".span", "3600")
    page.until("details.querySelector('.kept').getAttribute('d').split('M').length - 1 <= 7")
    before = page.evaluate("details.querySelector('.at').textContent")
    page.evaluate("details.querySelector('.later').click()")
    page.until(f"!['…', {before!r}].includes(details.querySelector('.at').textContent)")


def test_a_mask_is_drawn_and_is_the_file_that_a_sender_reads(page, tmp_path):
    page.evaluate("details.querySelector('.draw-mask').click()")
    for corner in ((0.1, 0.2), (0.4, 0.2), (0.4, 0.6)):
        page.drag(".sketch", corner, corner)
    page.drag(".sketch", (0.4, 0.6), (0.3, 0.5))  # a corner is moved
    page.evaluate("details.querySelector('.mask-next').click()")
    page.evaluate("details.querySelector('.sketch').focus()")
    for keys in (("ArrowLeft",), ("ArrowRight", "ArrowRight"), ("ArrowDown", "ArrowDown", "ArrowDown"), ("ArrowLeft",)):
        for key in keys:
            page.press(key, shift=True)
        page.press("Enter")
    page.press("Backspace")
    text = page.evaluate("details.querySelector('textarea').value")
    (file := tmp_path / "mask.toml").write_text(text)
    mask = PrivacyMask.load(file)
    assert len(mask.areas) == 2
    # The picture is 160x112, the place for it 4:3: what is beside the picture is not part of it.
    border = (0.75 - 112 / 160) / 2 / 0.75
    expected = [(0.1, 0.2), (0.4, 0.2), (0.3, 0.5)]
    for point, (x, y) in zip(mask.areas[0], expected, strict=True):
        assert point == pytest.approx((x, (y - border) / (1 - 2 * border)), abs=0.006)
    assert len(mask.areas[1]) == 3
    link = page.evaluate("(({ href, download }) => [href, download])(details.querySelector('.mask-save'))")
    assert link[0].startswith("blob:")
    assert link[1] == "mask.toml"
    fill(page, "textarea", "[[area]]\npoints = [[0, 0], [2, 0], [0, 1]]")
    assert "3 to 256 points" in page.evaluate("details.querySelector('.answer').textContent")
    page.press("Escape")  # lays down the tool, and leaves the details open
    assert page.evaluate("details.open && details.querySelector('.mask').hidden")
    page.evaluate("details.querySelector('.draw-mask').click(); details.querySelector('.mask-clear').click()")
    assert page.evaluate("details.querySelector('textarea').value") == ""


def next_command(camera, kind):
    while True:
        data = camera.commands.get(timeout=DEADLINE_S)
        if data and (command := Command.from_bytes(data)).kind == kind:  # an empty one asks for a birth
            return command


def test_a_part_is_chosen_and_the_sender_is_asked_for_it(page, served):
    camera, _ = served
    page.evaluate("details.querySelector('.choose-part').click()")
    assert page.evaluate("details.querySelector('.ask-region').disabled")
    page.drag(".sketch", (0.75, 0.75), (0.5, 0.5), (0.25, 0.25))
    left, top, width, height = (float(one) for one in page.evaluate("details.querySelector('.box').value").split(","))
    assert (left, width) == (pytest.approx(0.25, abs=0.005), pytest.approx(0.5, abs=0.005))
    assert (top, height) == (pytest.approx(0.232, abs=0.01), pytest.approx(0.536, abs=0.01))
    page.evaluate("details.querySelector('.ask-region').click()")
    command = next_command(camera, "region")
    assert command.roi == (left, top, width, height)
    page.until("details.querySelector('.answer').textContent == 'this part is sent finer than the rest'")
    fill(page, ".box", "0, 0.5, 1, 0.5")
    page.evaluate("details.querySelector('.ask-roi').click()")
    assert next_command(camera, "roi").roi == (0.0, 0.5, 1.0, 0.5)
    page.evaluate("details.querySelector('.ask-whole').click()")
    assert next_command(camera, "roi").roi == (0.0, 0.0, 1.0, 1.0)
    assert next_command(camera, "region").drop == 0
    page.evaluate("details.querySelector('.sketch').focus()")
    page.press("Enter")  # holds the first corner, where the last one was
    for key in ("ArrowRight", "ArrowDown"):
        page.press(key, shift=True)
        page.press(key, shift=True)
    page.press("Enter")
    assert page.evaluate("details.querySelector('.box').value") == f"{left}, {top}, 0.1, 0.1"


def test_a_detail_is_asked_for_by_a_drag_and_shown(page, served):
    camera, _ = served
    page.until("!details.querySelector('.ask-detail').hidden")
    page.evaluate("details.querySelector('.choose-part').click()")
    page.drag(".sketch", (0.25, 0.25), (0.5, 0.5), (0.75, 0.75))
    page.evaluate("details.querySelector('.ask-detail').click()")
    command = next_command(camera, "detail")
    assert command.roi[::2] == pytest.approx((0.25, 0.5), abs=0.01)
    page.until("details.querySelector('.answer').textContent == 'detail asked for'")
    mark = DetailMark.of(command.roi, command.id % 2**32)
    camera.send(with_mark(frame(4000, promised=True), detail=mark))
    page.until("details.querySelector('.answer').textContent == 'detail is here'")
    page.until("details.querySelector('.detail img').naturalWidth == 160")
    assert page.evaluate("details.querySelector('.detail-save').download") == "test_gate_main-4000-detail.jpg"


def test_an_event_is_asked_for_of_a_sender_that_can_make_one(page, served):
    camera, _ = served
    page.until("!details.querySelector('.make-event').hidden")
    page.evaluate("details.querySelector('.make-event').click()")
    assert next_command(camera, "event").label == ""
    page.until("details.querySelector('.answer').textContent == 'event asked for'")


def test_what_a_sender_may_spend_is_shown_as_it_says_and_changed(page, served):
    camera, _ = served
    chosen = "(one => one.selectedOptions[0]?.textContent)(details.querySelector('{}'))"
    page.until(f"{chosen.format('.max-bytes')} == '2500 B'")
    assert page.evaluate(chosen.format(".max-rate")) == "what the link bears"
    fill(page, ".max-bytes", "1000")
    assert next_command(camera, "budget").max_bytes == 1000
    camera.connection.publish(camera.topics.state, replace(STATE, max_bytes=1000, max_rate_bps=8000).to_bytes())
    page.until(f"{chosen.format('.max-rate')} == '8.0 kbit/s'")
    assert page.evaluate(chosen.format(".max-bytes")) == "1000 B"
    fill(page, ".max-rate", "start")
    command = next_command(camera, "budget")
    assert (command.max_bytes, command.max_rate_bps) == (None, 0)
    camera.connection.publish(camera.topics.state, STATE.to_bytes())
    page.until(f"{chosen.format('.max-bytes')} == '2500 B'")


def test_events_are_listed_and_lead_to_their_time(page):
    items = "[...{}.querySelectorAll('.events li:not([hidden])')].map((one) => one.innerText)"
    told = page.until(f"({items.format('details')}).length == 2 && {items.format('details')}")
    assert sorted(text.split("\n")[0] for text in told) == ["a person at the gate", "change"]
    page.until("[...details.querySelectorAll('.events img')].every((one) => one.complete && one.naturalWidth)")
    page.until("details.querySelector('.marks').getAttribute('d')")
    page.evaluate("details.querySelector('.events button').click()")
    page.until("details.querySelector('img').src.startsWith('blob:')")
    assert page.evaluate("details.querySelector('.span').value") == "300"
    page.evaluate("details.close(); view.value = 'events'; view.dispatchEvent(new Event('change'))")
    page.until("!details.open && !location.hash")  # it goes back, which would undo what comes next
    everywhere = "[...document.querySelectorAll('#events li:not([hidden])')].map((one) => one.innerText)"
    page.until(f"{everywhere}.length == 2")
    assert all("test/gate/main" in text for text in page.evaluate(everywhere))
    page.evaluate(
        "(one => { one.value = 'person'; one.dispatchEvent(new Event('input')) })(document.getElementById('find'))"
    )
    assert page.evaluate(f"{everywhere}.length") == 1
    if AXE:
        assert page.axe(Path(AXE).read_text(encoding="utf-8")) == []
    page.evaluate("document.querySelector('#events li:not([hidden]) button').click()")
    page.until("details.open && details.querySelector('img').src.startsWith('blob:')")
    page.evaluate("details.close(); view.value = 'wall'; view.dispatchEvent(new Event('change'))")
    page.until("!details.open && !location.hash")


def test_events_that_come_after_the_strip_are_marked_on_it_at_once(page):
    page.evaluate("""
      {
        window.strips = 0;
        const { fetch } = window;
        window.fetch = async (what, ...rest) => {
          const answer = await fetch(what, ...rest);
          window.strips += String(what).startsWith("archive.json?");
          while (String(what).startsWith("events?") && !window.strips) await new Promise((go) => setTimeout(go, 20));
          return answer;
        };
        details.close();
      }
    """)
    page.until("!details.open && !location.hash")
    page.evaluate("document.querySelector('.tile').click()")
    page.until("window.strips && details.querySelector('.marks').getAttribute('d')")
    assert page.evaluate("window.strips") == 1


def test_events_grow_old_while_they_are_shown(page):
    page.until("details.querySelector('.events .at').textContent.includes(' old')")
    page.evaluate("""
      {
        const { fetch } = window;
        window.fetch = async (what, ...rest) => {
          const answer = await fetch(what, ...rest);
          if (!String(what).startsWith("events?")) return answer;
          return new Response(JSON.stringify({ ...await answer.json(), time_ms: Date.now() + 7260000 }));
        };
        const now = performance.now.bind(performance);
        performance.now = () => now() + 20000; // it asks again now
      }
    """)
    page.until("details.querySelector('.events .at').textContent.includes(' · 2 h old')")


def test_another_camera_begins_at_present_and_without_a_tool(page):
    scrub(page, 100)
    page.until("details.querySelector('img').src.startsWith('blob:')")
    page.evaluate("details.querySelector('.draw-mask').click(); details.close()")
    page.until("!details.open && !location.hash")
    page.evaluate("document.querySelector('.tile').click()")
    page.until("details.open && details.querySelector('img').src.includes('.jpg')")
    assert page.evaluate("details.querySelector('.at').textContent") == "live"
    assert page.evaluate("details.querySelector('.mask').hidden && !details.querySelector('.sketch').checkVisibility()")


@pytest.mark.skipif(not AXE, reason="EDGESEM_AXE names no axe.min.js (npm install axe-core)")
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_in_the_tools(page, scheme):
    source = Path(AXE).read_text(encoding="utf-8")
    page.prefer(scheme)
    for script in ("details.querySelector('.draw-mask').click()", "details.querySelector('.choose-part').click()"):
        page.evaluate(f"{script}; 0")
        page.drag(".sketch", (0.2, 0.3), (0.6, 0.7))
        assert page.axe(source) == []
    scrub(page, 50)
    page.until("details.querySelector('img').src.startsWith('blob:')")
    assert page.axe(source) == []

"""The live page for everybody: eyes, keyboard, screen reader."""

from pathlib import Path

import pytest

from tests.support.browser import AXE, DESKTOP, PHONE, needs_chromium
from tests.support.real_broker import needs_mosquitto
from tests.support.wall import SAVING, choose, focused, order, shown

pytestmark = [needs_mosquitto, needs_chromium]


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
    browser.evaluate(f"location.hash = '{SAVING.name}'")
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

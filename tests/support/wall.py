"""A wall of cameras on the live page, and what tests do with it in a browser."""

import json
from contextlib import ExitStack, contextmanager

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker
from runtime.protocol.clock import clock_ms
from runtime.protocol.state import DataUsage, State
from runtime.protocol.topics import Topics
from tests.support.browser import DESKTOP
from tests.support.publishing import birth, codec, frame, identity, wait_for
from tests.support.receive_daemon import ReceiveDaemon
from tests.support.web_client import get

CAMERAS = [Topics("wall", f"camera-{number:02}", "main") for number in range(20)]
GONE, MARKED, SAVING = CAMERAS[7], CAMERAS[3], CAMERAS[5]


def state_of(topics):
    """What a camera says of itself; three have something to tell. None is silent before these tests end."""
    if topics is MARKED:
        return State(True, 1, clock_ms(), masked=True, grey=True, shrunk_percent=50, interval_s=300.0)
    data = DataUsage(46_000_000, 4_000_000, 49_000_000) if topics is SAVING else None
    return State(topics is not GONE, 1, clock_ms(), capacity_bps=64_000, budget_bytes=1500, data=data, interval_s=300.0)


@contextmanager
def walls():
    """Two receivers with live pages, by the number of cameras that each shows."""
    with Broker(kind="mosquitto") as broker, ExitStack() as stack:
        enter = stack.enter_context
        twenty = enter(ReceiveDaemon(broker, "wall/+/main", "--http", "0"))
        one = enter(ReceiveDaemon(broker, "wall/camera-00/main", "--http", "0"))
        connection = enter(Connection(broker.address, name="cameras"))
        born = birth(sealed=False, bundle_id=codec().bundle.id)
        births = {topics: born.to_bytes(identity(), base=topics.base) for topics in CAMERAS}
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
            left = [(daemon, topics) for daemon, topics in missing if (daemon, topics.name) not in shown]
            for topics in {topics for _, topics in left}:  # a receiver may not have subscribed yet
                connection.publish(topics.birth, births[topics])
                connection.publish(topics.state, state_of(topics).to_bytes())
                connection.publish(topics.layer(0), frame(number).to_bytes())
            number += 1
            return not left

        wait_for(all_are_shown)
        yield {1: one, 20: twenty}


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

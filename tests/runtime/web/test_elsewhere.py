"""Cameras that another receiver takes, on the page of this one: a real PostgreSQL, a real daemon and a real browser."""

import io
import json
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from PIL import Image

from edgesem.packet.event_mark import EventMark
from runtime.catalogue.database import PASSWORD_VARIABLE, Database
from runtime.catalogue.uploader import Uploader
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.shard import Shard
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.archive_spool import ArchiveSpool
from tests.support.browser import CHROMIUM, Browser
from tests.support.postgres import PASSWORD, needs_postgres, running_postgres
from tests.support.publishing import DEADLINE_S, frame, wait_for
from tests.support.receive_daemon import ReceiveDaemon

pytestmark = [needs_postgres, pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")]
_CONFIG = '[catalogue]\nurl = "{url}"\nobjects = "{objects}"\n'
OTHER = next(
    name for name in (f"test/cam{number}/main" for number in range(100)) if not Shard(0, 2).owns(Topics.named(name))
)
UNASKED = "far/cam/main"
EVENT = 0x3A62AAF
AGES_S = (3600, 1800, 40)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A receiver of one of two shards; a catalogue to which that of the other has brought frames. Their newest time."""
    folder = tmp_path_factory.mktemp("elsewhere")
    now_s = time.time()
    with pytest.MonkeyPatch.context() as patch, running_postgres() as server, Broker(kind="mosquitto") as broker:
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        objects = folder / "objects"
        with Archive(folder / "other") as archive:
            for number, age_s in enumerate(AGES_S):
                packet = frame(number, promised=True)
                if number == 1:
                    mark = EventMark(EVENT, 0, 0, kind=1, label="a dog")
                    packet = replace(packet, side_info=replace(packet.side_info, event=mark))
                archive.add(OTHER, packet, now_s - age_s)
                archive.add(UNASKED, packet, now_s - age_s)
        with Database(server.url) as database:
            uploader = Uploader(database, str(objects), folder / "other", period_s=0.1)
            with uploader, ArchiveSpool(folder / "other") as spool:
                wait_for(lambda: uploader.uploaded and not spool.waiting)
        config = folder / "receive.toml"
        config.write_text(_CONFIG.format(url=server.url, objects=objects))
        own = ("--out", folder / "out", "--state-dir", folder / "state", "--config", config)
        with ReceiveDaemon(broker, "test/+/+", "--shard", "0/2", "--http", "0", *map(str, own)) as daemon:
            yield daemon.url, now_s - AGES_S[-1]


def get(url):
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read(), answer.headers


def streams(url):
    return json.loads(get(f"{url}streams.json")[0])["streams"]


def test_the_newest_picture_of_another_shard_is_shown(served):
    url, newest_s = served
    (stream,) = wait_for(lambda: streams(url))  # none that was not asked for
    assert (stream["name"], stream["elsewhere"], stream["picture"]["frame"]) == (OTHER, True, 2)
    assert stream["picture"]["number"] == pytest.approx(newest_s * 1000, abs=2)
    assert 40 <= stream["picture"]["age_s"] < 40 + 3 * DEADLINE_S
    for query in ("", "?1-2"):
        body, headers = get(f"{url}{OTHER}.jpg{query}")
        assert Image.open(io.BytesIO(body)).size == (160, 112)
        assert float(headers["X-Timestamp"]) == pytest.approx(newest_s, abs=0.01)


@pytest.mark.parametrize("path", [f"{UNASKED}.jpg", f"{OTHER}.jpg?promised", f"{OTHER}.mjpg", "test/none/main.jpg"])
def test_what_the_catalogue_does_not_give_is_not_there(served, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{served[0]}{path}")
    with refused.value as answer:
        assert answer.code == 404


def test_events_of_another_shard_are_listed_with_their_picture(served):
    url, newest_s = served
    (event,) = json.loads(get(f"{url}events")[0])["events"]
    assert (event["stream"], event["id"], event["label"], event["phase"]) == (
        OTHER,
        f"{EVENT:08x}",
        "a dog",
        "complete",
    )
    assert event["time_ms"] == pytest.approx((newest_s - 1760) * 1000, abs=5)
    assert event["clip"] is None
    body, headers = get(f"{url}{event['picture']}")
    assert body
    assert float(headers["X-Timestamp"]) == pytest.approx(newest_s - 1760, abs=0.01)
    assert json.loads(get(f"{url}events?stream={UNASKED}")[0])["events"] == []
    assert json.loads(get(f"{url}events?before={event['time_ms']}")[0])["events"] == []


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_shows_it_on_the_wall_and_looks_back(served, tmp_path):
    with Browser(tmp_path) as browser:
        browser.open(served[0], 1440, 900)
        browser.until("document.querySelector('.tile img')?.naturalWidth > 0")
        assert "from the catalogue" in browser.evaluate("document.querySelector('.tile .badges').textContent")
        browser.evaluate("document.querySelector('.tile').click()")
        browser.until("document.querySelector('dialog[open].elsewhere img').naturalWidth > 0")
        browser.until("document.querySelector('.past .kept').getAttribute('d').split('M').length == 4")  # of 24 hours
        browser.until("document.querySelector('dialog .events .what')?.textContent == 'a dog'")
        shown = "document.querySelector('dialog .{}').checkVisibility()"
        assert not browser.evaluate(shown.format("snapshot"))
        assert browser.evaluate(shown.format("download"))
        browser.evaluate("document.querySelector('dialog .events button').click()")
        browser.until("document.querySelector('dialog .download').href.startsWith('blob:')")
        assert browser.complaints == []

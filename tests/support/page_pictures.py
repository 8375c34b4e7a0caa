"""Pictures of the live page for the documentation: `python -m tests.support.page_pictures docs/images`.

Twenty cameras show the photographs of the demo. Eighteen are senders, two are known from a catalogue alone. It needs
mosquitto, PostgreSQL and Chromium, and takes some minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.capture.frame import PHOTOS
from runtime.catalogue.database import PASSWORD_VARIABLE, Database
from runtime.catalogue.uploader import Uploader
from runtime.mqtt.loopback_broker import Broker
from runtime.receiver.archive import Archive
from runtime.receiver.archive_spool import ArchiveSpool
from tests.support.browser import PHONE, Browser
from tests.support.edgesem_process import edgesem_processes
from tests.support.postgres import PASSWORD, running_postgres
from tests.support.publishing import codec, wait_for
from tests.support.receive_daemon import ReceiveDaemon
from tests.support.wall import choose, shown
from tests.support.web_client import get, post

_SIZE = (320, 240)
_MOST_BYTES = 150_000
_MASK = "[[area]]\npoints = [[0.05, 0.1], [0.45, 0.05], [0.5, 0.6], [0.08, 0.55]]\n"
_EVENTS = ("--events", "--event-before", "3s", "--event-after", "3s", "--fps", 2)
CAMERAS = {
    "barn": (7, ()),
    "bridge": (3, (*_EVENTS, "--max-bytes", 2000)),
    "dock": (5, ("--grey", "on")),
    "field-1": (10, ()),
    "garage": (11, ()),
    "gate": (0, (*_EVENTS, "--data-day", 100, "--detail", "640x480")),
    "lane": (4, ("--live", "on-demand", "--idle-every", 600)),
    "mast": (13, ()),
    "pump": (8, ()),
    "river": (5, ()),
    "road": (12, ()),
    "roof": (1, ("--denoise",)),
    "shed": (2, ()),
    "silo": (6, ()),
    "till": (11, ()),
    "weir": (4, ("--mask", "MASK")),
    "well": (9, ("--max-bytes", 400)),
    "yard": (1, (*_EVENTS, "--max-rate-bps", 20_000)),
}
"""The photograph that each shows, and its flags."""
ELSEWHERE = {"mill": 9, "quarry": 8}
_CORNERS = [[(0.1, 0.2), (0.4, 0.15), (0.45, 0.5), (0.12, 0.6)], [(0.7, 0.7), (0.95, 0.75), (0.9, 0.95), (0.7, 0.95)]]


def photo(number):
    """A photograph of the demo, cut to the size of a camera."""
    with Image.open(sorted(PHOTOS.glob("*.jpg"))[number]) as image:
        scale = max(_SIZE[0] / image.width, _SIZE[1] / image.height)
        large = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    left, top = (large.width - _SIZE[0]) // 2, (large.height - _SIZE[1]) // 2
    return large.crop((left, top, left + _SIZE[0], top + _SIZE[1]))


@lru_cache
def packet(number):
    return codec().pack(codec().analyze(np.asarray(photo(number))), budget_bytes=2600)


def archive(folder, name, number, ages_s):
    """Archive a photograph as what a camera has shown so many seconds ago."""
    now_s = time.time()
    with Archive(folder) as kept:
        for place, age_s in enumerate(ages_s):
            time_ms = round(1000 * (now_s - age_s)) % 2**32
            kept.add(name, replace(packet(number), frame=place, epoch=1, time_ms=time_ms), now_s - age_s)


def catalogue(home, url):
    """Bring what another receiver has taken to a catalogue; the settings of a receiver with that."""
    for name, number in ELSEWHERE.items():
        archive(home / "other", f"farm/{name}/main", number, (600, 40))
    with (
        Database(url) as database,
        Uploader(database, str(home / "objects"), home / "other", period_s=0.1) as uploader,
        ArchiveSpool(home / "other") as spool,
    ):
        wait_for(lambda: uploader.uploaded and not spool.waiting)
    config = home / "receive.toml"
    config.write_text(f'[catalogue]\nurl = "{url}"\nobjects = "{home / "objects"}"\n')
    return config


def start_cameras(home, start, there):
    """Start all senders, and wait until each has sent something."""
    mask = home / "mask.toml"
    mask.write_text(_MASK)
    senders = {}
    for name, (number, flags) in CAMERAS.items():
        pictures = home / name
        pictures.mkdir()
        photo(number).save(pictures / "0.png")
        rate = () if "--fps" in flags else ("--fps", 0.2)
        own = ("--site", "farm", "--device", name, "--state-dir", home / f"{name}-state", "--loop", *rate)
        flags = (mask if flag == "MASK" else flag for flag in flags)
        senders[name] = start("send", pictures, *there, *own, *flags, log=home / f"{name}.log")
    for sender in senders.values():
        sender.wait_for("packed")
    return senders


def ask(there, kind, name, *more):
    asked = [sys.executable, "-m", "edgesem", "ask", kind, f"farm/{name}/main", *more, *there]
    subprocess.run(list(map(str, asked)), check=True, stdout=subprocess.DEVNULL)


def save(images, path, width):
    """Put pictures beside each other, and save them so wide."""
    gap = 10 if len(images) > 1 else 0
    across = sum(image.width for image in images) + gap * (len(images) - 1)
    sheet = Image.new("RGB", (across, images[0].height), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + gap
    sheet = sheet.resize((width, round(sheet.height * width / sheet.width)), Image.Resampling.LANCZOS)
    for quality in range(90, 40, -2):
        sheet.save(path, quality=quality, optimize=True)
        if path.stat().st_size < _MOST_BYTES:
            break
    print(f"{path}: quality {quality}, {path.stat().st_size} bytes")


def draw_mask(browser):
    """Draw a mask on the picture of the details."""
    browser.evaluate("details.querySelector('.draw-mask').click()")
    for number, corners in enumerate(_CORNERS):
        if number:
            browser.evaluate("details.querySelector('.mask-next').click()")
        for corner in corners:
            browser.drag(".sketch", corner, corner)


def take(browser, daemon, out):
    """Take the pictures of a wall that is complete."""
    cameras = len(CAMERAS) + len(ELSEWHERE)
    all_there = "[...document.querySelectorAll('.tile img')].filter((one) => one.naturalWidth).length"
    shown(browser, daemon, cameras)
    browser.until(f"{all_there} == {cameras}")
    browser.until("document.body.innerText.includes('shrunk')")
    save([browser.screenshot()], out / "live_page.jpg", 1200)

    details = "details.open && details.querySelector('img').naturalWidth"
    charts = "details.querySelector('.charts .now').textContent != 'unknown'"
    shown(browser, daemon, cameras, scheme="light", fragment="#farm/yard/main")
    browser.until(f"{details} && details.querySelector('.kept').getAttribute('d')")
    when = "details.querySelector('.when')"
    browser.evaluate(f"{when}.value = 220; {when}.dispatchEvent(new Event('input'))")
    browser.until("details.querySelector('img').src.startsWith('blob:') && details.querySelector('img').naturalWidth")
    browser.until("details.querySelectorAll('.events img').length && details.querySelector('.events img').naturalWidth")
    draw_mask(browser)
    browser.until(charts)
    save([browser.screenshot()], out / "live_page_details.jpg", 1200)

    phone = []
    shown(browser, daemon, cameras, PHONE)
    browser.until(f"{all_there} >= 8")
    phone.append(browser.screenshot())
    choose(browser, "view", "events")
    browser.until("[...document.querySelectorAll('#events img')].filter((one) => one.naturalWidth).length >= 3")
    phone.append(browser.screenshot())
    choose(browser, "view", "wall")
    browser.evaluate("location.hash = 'farm/gate/main'")
    browser.until(f"{details} && details.querySelector('.kept').getAttribute('d') && {charts}")
    browser.evaluate("document.activeElement.blur()")
    phone.append(browser.screenshot())
    browser.evaluate("details.querySelector('.limits').scrollIntoView({ block: 'center' })")
    browser.until("details.querySelector('.max-bytes').value && details.querySelector('.events img').naturalWidth")
    phone.append(browser.screenshot())
    save(phone, out / "live_page_phone.jpg", 1230)
    assert browser.complaints == []


def main(out):
    """Make all pictures in the folder `out`."""
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    with ExitStack() as stack:
        enter = stack.enter_context
        home = Path(enter(tempfile.TemporaryDirectory(prefix="edgesem-page-")))
        broker, postgres = enter(Broker(kind="mosquitto")), enter(running_postgres())
        config = catalogue(home, postgres.url)
        day_s = [86400 - 300 * number for number in range(288) if not 120 <= number < 144]
        archive(home / "out", "farm/yard/main", CAMERAS["yard"][0], day_s)
        archive(home / "out", "farm/gate/main", CAMERAS["gate"][0], day_s[100:])
        (home / "password").write_text(broker.address.password)
        (home / "password").chmod(0o600)
        there = ("--port", broker.address.port, "--user", broker.address.user, "--password-file", home / "password")
        own = ("--http", "0", "--out", home / "out", "--state-dir", home / "state", "--config", config)
        daemon = enter(ReceiveDaemon(broker, "farm/+/+", *own))
        senders = start_cameras(home, enter(edgesem_processes()), there)
        post(f"{daemon.url}settings", stream="farm/silo/main", steps=1)
        for name, label in (("yard", ""), ("bridge", "a white van"), ("gate", "the bell")):
            ask(there, "event", name, *(("--label", label) if label else ()))
        wait_for(lambda: get(f"{daemon.url}events").count(b'"complete"') == 3)
        ask(there, "pause", "pump")
        senders["barn"].end()
        wait_for(lambda: json.loads(get(f"{daemon.url}streams.json"))["streams"])
        take(enter(Browser(home / "chromium")), daemon, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Headless Chromium, asked over a pipe by the DevTools protocol: no port, no package."""

import base64
import contextlib
import io
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from itertools import count

import pytest
from PIL import Image

from tests.support.publishing import DEADLINE_S, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESKTOP, PHONE = (1440, 900), (390, 844)
AXE = os.environ.get("EDGESEM_AXE")
"""File axe.min.js of axe-core (npm install axe-core), whose checks are run too."""
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
_KEYS = {"Backspace": 8, "Tab": 9, "Enter": 13, "Escape": 27, "Home": 36}
_KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# Chromium reads descriptor 3 and writes descriptor 4.
_START = """
import fcntl, os, sys
for wanted, given in enumerate([fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]], 3):
    os.dup2(given, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Chromium with one page. `complaints` are the errors of its console: also what its policy did not load."""

    def __init__(self, folder):
        self.complaints = []
        self._folder = folder
        self._ids = count(1)
        self._answers = queue.Queue()

    def __enter__(self):
        reads, writes = os.pipe(), os.pipe()
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={self._folder}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(reads[0]), str(writes[1]), *command],
            pass_fds=(reads[0], writes[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads[0])
        os.close(writes[1])
        self._out, self._in = os.fdopen(reads[1], "wb", buffering=0), os.fdopen(writes[0], "rb")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._session = None
        try:
            target = wait_for(self._page)
            self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self._ask(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _page(self):
        targets = self._ask("Target.getTargets")["targetInfos"]
        return next((one["targetId"] for one in targets if one["type"] == "page"), None)

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._out.close()
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._in.close()

    def open(self, url, width, height, *, scheme="dark"):
        """Show a page in a window of this size, as somebody with this colour scheme sees it."""
        phone = width < 600
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.prefer(scheme)
        self._ask("Page.navigate", url="about:blank")
        self.complaints.clear()
        self._ask("Page.navigate", url=url)
        self.until("document.readyState == 'complete' && location.href != 'about:blank'")

    def leave(self):
        """Show nothing: a page would go on asking its server."""
        self._ask("Page.navigate", url="about:blank")
        self.until("location.href == 'about:blank'")

    def prefer(self, scheme):
        """Prefer a colour scheme, `dark` or `light`."""
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, script):
        """The value of an expression on the page; a promise is awaited."""
        told = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script):
        """Wait for an expression to become true, and return its value."""
        return wait_for(lambda: self.evaluate(script))

    def press(self, key, *, shift=False):
        """Press a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self._ask("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text):
        """Write into what has the focus."""
        self._ask("Input.insertText", text=text)

    def drag(self, selector, *places):
        """Press the mouse on an element, move it, and release it; places are shares of its width and height."""
        box = self.evaluate(
            f"(({{ left, top, width, height }}) => [left, top, width, height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in places]
        for kind, (x, y) in [
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points[1:]),
            ("mouseReleased", points[-1]),
        ]:
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self):
        """What the window shows, as a PIL image."""
        data = base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])
        return Image.open(io.BytesIO(data)).convert("RGB")

    def axe(self, source):
        """What axe-core (its source) finds wrong on the page: rule and elements."""
        self.evaluate(f"{source}; 0")
        self.evaluate("window.found = null; axe.run().then((all) => (window.found = all.violations)); 0")
        self.until("window.found !== null")
        return self.evaluate("window.found.map((one) => [one.id, one.nodes.map((node) => node.html)])")

    def roles(self):
        """What a screen reader is told: (role, name) of everything that has a role."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
        return [one for one in told if one[0] not in ("StaticText", "InlineTextBox", "none", "generic")]

    def _ask(self, method, **params):
        number = next(self._ids)
        request = {"id": number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        self._out.write(json.dumps(request).encode() + b"\0")
        while (answer := self._answers.get(timeout=DEADLINE_S))["id"] != number:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self):
        message = b""
        while part := self._in.read1(65536):
            *whole, message = (message + part).split(b"\0")
            for one in map(json.loads, whole):
                if "id" in one:
                    self._answers.put(one)
                elif one["method"] == "Runtime.exceptionThrown":
                    self.complaints.append(one["params"]["exceptionDetails"])
                elif one["method"] == "Log.entryAdded" and one["params"]["entry"]["level"] == "error":
                    self.complaints.append(one["params"]["entry"])

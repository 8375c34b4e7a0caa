"""The receiver's HTTP server: files of the live page, pictures, figures, metrics and settings."""

import http.server
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.web.server import BoundedServer
from tests.support import dashboard
from tests.support.publishing import DEADLINE_S, birth, codec, frame, identity, wait_for
from tests.support.real_broker import needs_mosquitto
from tests.support.receive_daemon import Camera, ReceiveDaemon
from tests.support.web_client import get, post

pytestmark = needs_mosquitto


def watching(broker):
    return ReceiveDaemon(broker, "test/page/+", "--http", "0", "--allowed-host", "cams.example")


@pytest.fixture(scope="module")
def watched(broker):
    """A receiver with a live page, and the camera that it shows."""
    with Camera(broker, "page") as camera, watching(broker) as daemon:
        # It is not silent before these tests end.
        state = State(True, 1, 0, capacity_bps=64_000, rtt_s=0.05, budget_bytes=1500, frames=3, interval_s=300.0)
        camera.send_until_heard()
        camera.connection.publish(camera.topics.state, state.to_bytes())
        daemon.next("picture")
        yield camera, daemon


def test_http_serves_pictures_figures_metrics_and_takes_settings(watched):
    camera, daemon = watched
    url = daemon.url
    told = wait_for(lambda: (one := json.loads(get(f"{url}streams.json"))["streams"][0])["state"] and one)
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
    status, answer = post(f"{url}settings", stream="test/pag/main")
    assert (status, answer["error"]) == (404, "no stream test/pag/main is heard here; heard are test/page/main")
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


def raw(url, data, timeout_s=DEADLINE_S):
    """A connection on which these bytes were sent."""
    sock = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=timeout_s)
    sock.sendall(data)
    return sock


def answer_of(url, data):
    """All that comes back."""
    with raw(url, data) as sock:
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status_of(url, path="/", method="GET", body=b"", host="localhost", **headers):
    """The status that a request gets, with these headers; _ stands for -."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return int(answer_of(url, "\r\n".join([*lines, "", ""]).encode() + body).split()[1])


def test_a_reverse_proxy_may_pass_on_its_name_or_ours_and_no_other_name_is_answered(watched):
    _, daemon = watched
    body = b'{"stream": "test/page/main", "realism": 0.5}'
    about = {"Content_Type": "application/json", "Content_Length": len(body)}

    def status(host, **headers):
        return status_of(daemon.url, "/settings", "POST", body, host=host, **about, **headers)

    for host in ("cams.example", "CAMS.example:8443", "localhost"):
        assert status_of(daemon.url, "/streams.json", host=host) == 200
        assert status(host, Origin="https://cams.example") == 200
        assert status(host, Origin="https://evil.example") == 403
    for host in ("evil.example", "cams.example.evil.example", "evil.example:cams.example", "[cams.example]x", ""):
        assert status(host) == 403
    assert status("cams.example", Origin="null") == 403
    assert status("cams.example", Origin="http://[cams.example") == 403


def test_the_page_names_what_it_loads_from_where_it_stands(watched):
    """Behind a proxy it may stand in a folder."""
    _, daemon = watched
    names = {file.name for file in files("runtime.page").iterdir()}
    scripts = [name for name in names - {"fleet.js"} if name.endswith(".js")]  # that is of another server
    for path in ("", "page.css", *scripts):
        text = get(f"{daemon.url}{path}").decode()
        assert re.findall(r"""(?:from|import) ["'`](?!\./)""", text) == []
        assert re.findall(r"""(?:href|src|fetch|post)(?:=|\()["'`]/[^"'`]*""", text) == []


def test_the_guide_names_every_mark_of_a_picture():
    script = files("runtime.page").joinpath("picture.js").read_text("utf-8")
    marks = re.findall(r"""\[["`]([a-z ]+)""", script.partition("badgesOf")[2].partition("];")[0])
    assert len(marks) > 7
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "live-page.md").read_text("utf-8")
    assert [mark for mark in marks if f"\n| {mark.strip()}" not in guide] == []


def test_bad_numbers_get_a_400(watched):
    _, daemon = watched
    for since in ("abc", "-1", "1e3", "9" * 17, "9" * 5000, "%D9%A3", ""):
        assert status_of(daemon.url, f"/streams.json?since={since}") == 400, since
    assert status_of(daemon.url, "/streams.json?since=0") == 200
    name = "test/page/main"
    for steps in ("1" * 400, "-1", "1e999"):
        body = f'{{"stream": "{name}", "steps": {steps}, "realism": {steps}}}'.encode()
        for path in ("/settings", "/snapshot"):
            about = {"Content_Type": "application/json", "Content_Length": len(body)}
            expected = 202 if path == "/snapshot" else 400
            assert status_of(daemon.url, path, "POST", body, **about) == expected
    body = f'{{"stream": "{name}", "realism": {"9" * 400}}}'.encode()
    about = {"Content_Type": "application/json", "Content_Length": len(body)}
    assert status_of(daemon.url, "/settings", "POST", body, **about) == 400
    assert status_of(daemon.url, "/settings", "POST", Content_Length="9" * 5000) == 413


def test_the_body_of_a_get_request_is_not_the_next_request(watched):
    _, daemon = watched
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head = f"GET /page.css HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode()
    last = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = answer_of(daemon.url, head + smuggled + last)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b"edgesem_receiver" not in answers
    assert status_of(daemon.url, Content_Length="5000") == 400
    assert status_of(daemon.url, body=b"0\r\n\r\n", Transfer_Encoding="chunked") == 400


def test_head_is_answered_as_get_without_a_body(watched):
    _, daemon = watched
    for path in ("", "test/page/main.jpg", "streams.json", "metrics"):
        request = urllib.request.Request(daemon.url + path, method="HEAD")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) > 0
            assert answer.read() == b""
    assert status_of(daemon.url, "/nothing", "HEAD") == 404
    assert status_of(daemon.url, "/test/page/main.mjpg", "HEAD") == 200


def test_a_foreign_page_cannot_show_a_picture_and_a_link_can_be_followed(watched):
    _, daemon = watched
    picture = "/test/page/main.jpg"
    assert status_of(daemon.url, picture, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
    assert status_of(daemon.url, picture, Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors") == 403
    assert status_of(daemon.url, picture, Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="no-cors") == 200
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert status_of(daemon.url, "/", **followed) == 200
    assert status_of(daemon.url, "/", **followed | {"Sec_Fetch_Dest": "iframe"}) == 403
    with urllib.request.urlopen(daemon.url + picture[1:], timeout=DEADLINE_S) as answer:
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_slow_clients_and_videos_that_nobody_reads_do_not_close_the_page(watched):
    """More slow clients than the server has room for; each holds its place for a bounded time."""
    _, daemon = watched
    silent = []
    try:
        for number in range(80):
            path = "/test/page/main.mjpg" if number % 2 else "/streams.json"
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n" + ("\r\n" if number % 2 else "")
            silent.append(raw(daemon.url, head.encode()))
        until_s = time.monotonic() + 60

        def is_served():
            for sock in silent:  # a byte now and then, which no timeout for each byte would ever end
                try:
                    sock.send(b"X")
                except OSError:
                    continue
            try:
                return get(f"{daemon.url}streams.json")
            except OSError:
                return None

        assert wait_for(is_served)
        assert time.monotonic() < until_s
    finally:
        for sock in silent:
            sock.close()


def test_one_address_does_not_take_all_places():
    go_on = threading.Event()

    class Held(http.server.BaseHTTPRequestHandler):
        """Holds the clients of one address, and greets all others."""

        def handle(self):
            if self.client_address[0] == "127.0.0.1":
                go_on.wait()
            else:
                self.wfile.write(b"welcome")

    with BoundedServer(("127.0.0.1", 0), Held) as server, ExitStack() as stack:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        stack.callback(go_on.set)
        for _ in range(80):
            stack.enter_context(socket.create_connection(server.server_address))
        with socket.create_connection(server.server_address, DEADLINE_S, ("127.0.0.2", 0)) as other:
            assert other.recv(100) == b"welcome"


def test_a_stream_says_what_is_wrong_and_its_pictures_can_be_saved(watched):
    camera, daemon = watched
    camera.send(frame(100_000, promised=True))
    wait_for(lambda: told(daemon)["snapshot"])
    assert get(f"{daemon.url}test/page/main.jpg?promised")[:2] == b"\xff\xd8"
    assert told(daemon)["trouble"] is None
    camera.connection.publish(camera.topics.state, State(True, 1, 0, silent_s=12).to_bytes())
    assert wait_for(lambda: told(daemon)["trouble"]) == "its camera gives no picture"
    camera.connection.publish(camera.topics.state, State(True, 1, 0).to_bytes())
    wait_for(lambda: told(daemon)["trouble"] is None)
    camera.connection.publish(camera.topics.state, State(False, 1, 0).to_bytes())
    assert wait_for(lambda: told(daemon)["trouble"]) == "the sender is gone"
    assert told(daemon)["heard_s"] >= 0
    status, answer = post(f"{daemon.url}snapshot", stream="test/page/main")
    assert status == 503
    assert answer["error"].startswith("test/page/main cannot be asked: the sender is gone")
    born = birth(sealed=False, bundle_id=7)
    camera.connection.publish(camera.topics.birth, born.to_bytes(identity(), base=camera.topics.base))
    wait_for(lambda: "bundle 0007" in told(daemon)["trouble"])
    camera.send(frame(100_001, bundle_id=8))
    wait_for(lambda: told(daemon)["counters"]["other_bundle"])
    assert "bundle 0008" in told(daemon)["trouble"]
    while (command := Command.from_bytes(camera.commands.get(timeout=DEADLINE_S))).kind != "bundle":
        pass
    assert command.bundles == (codec().bundle.id,)


def told(daemon):
    return json.loads(get(f"{daemon.url}streams.json"))["streams"][0]

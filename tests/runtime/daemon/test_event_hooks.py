"""What is called for an event: a real command and a real server, also those that hang, lie or are not there."""

import email
import http.server
import json
import queue
import socket
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edgesem.errors import UsageError
from runtime.daemon.event_hooks import EventHooks, HookCall, WebhookUrl
from tests.support.publishing import DEADLINE_S, wait_for

EVENT = {
    "id": "5f3a9c01",
    "stream": "home/gate/main",
    "phase": "complete",
    "cause": "watch",
    "label": "$(touch pwned); `id` \"'&|<>",
    "time": "2026-11-30T16:04:07.573Z",
    "time_ms": 1796054647573,
}


@contextmanager
def server(answer):
    """A server that gives each request to `answer(handler)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            with suppress(OSError):
                answer(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def call(tmp_path, **more):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"\xff\xd8 the picture \xff\xd9")
    return HookCall({**EVENT, **more}, {"picture": picture})


def test_a_command_gets_what_happened_and_no_shell_ever_sees_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESEM_PASSWORD", "secret")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.json"
    code = "import os, sys, json; told = [sys.argv[1:], sys.stdin.read(), dict(os.environ)]\n"
    code += (
        f"open({str(out) + '.part'!r}, 'w').write(json.dumps(told)); os.rename({str(out) + '.part'!r}, {str(out)!r})"
    )
    command = [script(tmp_path / "hook", code), "a b", "$HOME; echo"]
    with EventHooks(command, "", timeout_s=DEADLINE_S) as hooks:
        hooks.put(call(tmp_path))
        wait_for(out.exists)
    arguments, stdin, environment = json.loads(out.read_text())
    assert arguments == ["a b", "$HOME; echo"]
    assert json.loads(stdin) == EVENT
    told = {key: value for key, value in environment.items() if key.startswith("EDGESEM_")}
    assert told["EDGESEM_EVENT_LABEL"] == EVENT["label"]
    assert told["EDGESEM_EVENT_PICTURE"] == str(tmp_path / "picture.jpg")
    assert told["EDGESEM_EVENT_TIME_MS"] == "1796054647573"
    assert "EDGESEM_PASSWORD" not in told
    assert not (tmp_path / "pwned").exists()


def test_a_command_that_hangs_is_killed_with_what_it_started_and_the_next_event_has_its_turn(tmp_path, caplog):
    pids = tmp_path / "pids"
    shell = f"sleep 999 & echo $! >> '{pids}'; sleep 999"  # that starts sooner than Python
    with EventHooks(["/bin/sh", "-c", shell], "", timeout_s=3) as hooks:
        hooks.put(call(tmp_path))
        hooks.put(call(tmp_path))
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        wait_for(lambda: not alive(int(pids.read_text().split()[0])))
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))
    assert caplog.text.count("logged once") == 1
    assert "took more than 3 s" in caplog.text


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_is_not_there_or_fails_is_logged_once_until_it_works(tmp_path, caplog):
    caplog.set_level("INFO")
    path, done = tmp_path / "hook", tmp_path / "done"
    with EventHooks([str(path)], "", timeout_s=DEADLINE_S) as hooks:
        for _ in range(3):
            hooks.put(call(tmp_path))
        wait_for(lambda: hooks._calls.empty())
        script(path, f"open({str(done)!r}, 'w')")
        hooks.put(call(tmp_path))
        wait_for(done.exists)
        wait_for(lambda: "works again" in caplog.text)
    assert caplog.text.count("No such file") == 1


def test_a_webhook_gets_event_and_picture_as_a_form(tmp_path):
    came = queue.Queue()

    def answer(handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        came.put((handler.path, handler.headers, body))
        handler.send_response(204)
        handler.end_headers()

    with server(answer) as url:
        target = url.replace("://", "://me:pass%20word@") + "/api/webhook/edgesem?key=1"
        with EventHooks([], target, timeout_s=DEADLINE_S) as hooks:
            hooks.put(call(tmp_path))
            path, headers, body = came.get(timeout=DEADLINE_S)
    assert path == "/api/webhook/edgesem?key=1"
    assert headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    form = email.message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    event, picture = form.get_payload()
    assert event.get_param("name", header="Content-Disposition") == "event"
    assert json.loads(event.get_payload(decode=True)) == EVENT
    assert (picture.get_content_type(), picture.get_filename()) == ("image/jpeg", "picture.jpg")
    assert picture.get_payload(decode=True) == b"\xff\xd8 the picture \xff\xd9"


def test_a_webhook_that_answers_byte_by_byte_for_ever_ends_and_holds_up_nothing(tmp_path, caplog):
    came = queue.Queue()

    def answer(handler):
        came.put(handler.rfile.read(int(handler.headers["Content-Length"])))
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.05)  # the server's, not the test's

    with server(answer) as url, EventHooks([], f"{url}/secret-path", timeout_s=1) as hooks:
        started_s = time.monotonic()
        for _ in range(100):
            hooks.put(call(tmp_path))
        assert time.monotonic() - started_s < 50  # waiting for the hooks would take twice that
        for _ in range(2):
            came.get(timeout=DEADLINE_S)
    assert "127.0.0.1 took more than 1 s" in caplog.text
    assert caplog.text.count("the webhook for events has failed") == 1
    assert caplog.text.count("the oldest are left out") == 1
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_a_failure_and_no_redirect_is_followed(tmp_path, caplog, status):
    came = queue.Queue()

    def answer(handler):
        came.put(handler.path)
        handler.send_response(status)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with server(answer) as url, EventHooks([], f"{url}/hook", timeout_s=DEADLINE_S) as hooks:
        hooks.put(call(tmp_path))
        assert came.get(timeout=DEADLINE_S) == "/hook"
        wait_for(lambda: f"answered {status}" in caplog.text)
        assert came.empty()


def test_nobody_at_the_webhook_is_a_failure(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with EventHooks([], f"http://127.0.0.1:{taken.getsockname()[1]}/", timeout_s=DEADLINE_S) as hooks:
            hooks.put(call(tmp_path))
            wait_for(lambda: "Connection refused" in caplog.text)


def test_without_hooks_there_is_no_thread(tmp_path):
    def runs():
        return any(thread.name == "event hooks" and thread not in before for thread in threading.enumerate())

    before = threading.enumerate()
    with EventHooks([], "", timeout_s=1) as hooks:
        hooks.put(call(tmp_path))
        assert not runs()
    with EventHooks([str(tmp_path / "none")], "", timeout_s=1) as hooks:
        assert not runs()
        hooks.put(call(tmp_path))
        assert runs()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://a/b",
        "http://",
        "http:///x",
        "hook",
        "http://a:port/",
        "http://a/b c",
        "http://a/\u00e4",
        "file:///etc",
    ],
)
def test_other_urls_are_refused(text):
    with pytest.raises(UsageError, match="webhook for events"):
        WebhookUrl.parse(text)


def test_the_end_waits_for_no_hook(tmp_path):
    begun = tmp_path / "begun"
    command = script(tmp_path / "hook", f"open({str(begun)!r}, 'w'); import time; time.sleep(999)")
    with EventHooks([command], "", timeout_s=600) as hooks:
        for _ in range(5):
            hooks.put(call(tmp_path))
        wait_for(begun.exists)
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 30

"""What the commands of a device show: names as they are, whole on 80 columns, and events that are JSON."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from runtime.cli import account, bench_change, bench_link, demo, event_output, receive, search, send
from tests.support.edgesem_process import WAIT_S

ODD = "[/red] [bold]x[/] [::1]\\"
LINK = {"usable_share": 0.9, "quality": 0.9876, "skipped": 1234, "promised": 1, "lost_promised": 0} | dict.fromkeys(
    ("base_delay_p50_s", "base_delay_p95_s", "last_delay_p95_s", "age_p95_s"), 12.3
)
CHANGE = {
    "frames": 1234,
    "events": 12,
    "all": {"recall": 0.9},
    "change": {"frames": 120, "saved": 0.8, "recall": 0.7, "blind_recall": 0.6},
}
STREAM = {"layers": 1234567, "size_bytes": 123456789, "decode_s": 1234.5, "dropped": 12345, "kept": 12} | dict.fromkeys(
    ("malformed", "unsealed", "other_bundle", "undecodable"), 1
)
HIT = {"time": "2026-11-30T06:21:58.123", "frame": 123456, "score": 0.97, "size_bytes": 12345}


def link(name):
    report = {name: dict.fromkeys(("edgesem", "fixed", "fixed_newest", name), LINK)}
    return bench_link._render(report, {"seconds": 60, "fps": 10, "link": name}, bench_link._render_senders)


def received(name):
    stream = {"stream": name, "pictures": 123456, **STREAM}
    only = {"passed": 123, "left": 9, "unknown": 1}
    return receive._render({"streams": [stream], "seconds": 9, "pictures": 1, "unwritten": 0, "only": only})


def found(name):
    hit = {**HIT, "stream": name, "file": f"found/001-{name}-12-123456.png"}
    return search._render({"hits": [hit], "among": 100, "query": name})


RENDERED = {
    "bench link": link,
    "bench change": lambda name: bench_change._render({"fps": 5, "clips": {name: CHANGE}, "total": CHANGE}),
    "receive": received,
    "search": found,
    "account list": lambda name: account._render({"accounts": [{"name": name, "role": "device", "streams": [name]}]}),
}


@pytest.fixture
def printed(monkeypatch):
    """What commands print on stderr."""
    out = Console(width=300, file=io.StringIO())
    for module in (demo, search):
        monkeypatch.setattr(module, "log", out)
    for module in (receive, send):
        monkeypatch.setattr(module, "say", lambda text: out.file.write(f"{text}\n"))
    return out.file


def shown(renderable, width):
    out = Console(width=width, file=io.StringIO())
    out.print(renderable)
    return out.file.getvalue()


@pytest.mark.parametrize("command", RENDERED)
def test_names_are_shown_as_they_are(command, printed):
    assert ODD in shown(RENDERED[command](ODD), 300)


@pytest.mark.parametrize("command", RENDERED)
def test_names_and_figures_are_whole_on_80_columns(command, printed):
    for name in ("home/backyard-camera", "a_clip_of_a_fixed_camera", "norway_tram"):
        text = shown(RENDERED[command](name), 80)
        assert name in text
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80
        figures = {"receive": ("123,456", "1,234,567", "123,456,789"), "search": ("123456", "12345")}
        assert all(figure in text for figure in figures.get(command, ()))


def test_events_are_shown_as_they_are(printed):
    show = receive._first_pictures()
    show({"event": "ready", "url": "http://[::1]:8480"})
    show({"event": "picture", "stream": ODD, "width": 9, "height": 9, "size_bytes": 9, "layers": 1, "delay_s": 1.0})
    search._render({"hits": [{**HIT, "stream": ODD, "error": ODD}], "among": 1, "query": ODD})
    text = printed.getvalue()
    assert text.count(ODD) == 3
    assert "http://[::1]:8480" in text


def test_the_score_of_what_is_looked_for_is_shown(printed):
    show = send._states(0.8)
    for score in (0.4, 0.893, 0.1):
        show({"event": "news", "query": ODD, "score": score})
    state = {"capacity_bps": None, "up": True, "age_s": None, "frames": 9, "skipped": 9, "sent_bytes": 9, "live": ""}
    show({"event": "state", "promised_waiting": 0, **state})
    show({"event": "state", "promised_waiting": 0, **state})
    first, second = printed.getvalue().splitlines()
    assert first.endswith("0.89 of 0.8")
    assert ODD in first
    assert second.endswith("promised wait")
    show({"event": "state", "promised_waiting": 0, "silent_s": 35, **state})
    assert "connected, NO PICTURE FROM THE CAMERA for 35 s, link" in printed.getvalue()


def test_an_event_line_is_json_whatever_is_in_it(capsys):
    event_output.print_json_line({"event": "x", "rate": float("inf"), "age": float("nan"), "name": "ä\n\x1b[31m"})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"event": "x", "rate": None, "age": None, "name": "ä\n\x1b[31m"}
    assert line.isascii()


PRINTER = """
import threading, time
from runtime.cli.event_output import print_json_line
from runtime.process.signals import stop_on_signals
with stop_on_signals() as stop:
    def work():
        while not stop.is_set():
            print_json_line({"event": "x"})
    threads = [threading.Thread(target=work) for _ in range(3)]
    [thread.start() for thread in threads]
    stopped = stop.wait(60)
    [thread.join() for thread in threads]
raise SystemExit(0 if stopped else 1)
"""


def test_a_reader_that_has_seen_enough_ends_the_command_in_order():
    with subprocess.Popen([sys.executable, "-c", PRINTER], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline()) == {"event": "x"}
        process.stdout.close()
        assert process.wait(WAIT_S) == 0
        assert process.stderr.read() == b""


def test_a_full_disk_under_the_events_is_no_reason_to_end():
    code = PRINTER.replace("stop.wait(60)", "not stop.wait(0.2) and (stop.set() or True)")
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, timeout=WAIT_S)
    assert run.returncode == 0
    assert run.stderr.count(b"can no longer be printed") == 1


SERVICE = """
import sys, time
from runtime.process import signals
from runtime.process.service import running_service
signals.SAME_SIGNAL_S *= float(sys.argv[2])  # a busy machine may be slow to pass the second one on
with running_service() as service:
    print("ready", flush=True)
    service.stop.wait()
    print("stopping", flush=True)
    time.sleep(float(sys.argv[1]))
print("stopped", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_twice_at_once_is_one(number):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SERVICE, "0", "600"], **pipes) as process:
        for line in (b"ready\n", b"stopping\n", b"stopped\n"):  # while it serves, while it ends, and behind that
            assert process.stdout.readline() == line
            os.kill(process.pid, number)
        process.stdin.close()
        assert process.wait(WAIT_S) == 0


def test_a_second_signal_a_second_later_ends_it_at_once():
    with subprocess.Popen([sys.executable, "-c", SERVICE, "600", "1"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        for _ in range(WAIT_S * 2):
            try:
                code = process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                process.terminate()
        assert code == 128 + signal.SIGTERM

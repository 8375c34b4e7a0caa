"""Signals that end a daemon."""

import os
import signal
import subprocess
import sys

import pytest

from runtime.process.signals import stop_on_signals

WAIT_S = 20


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN])
def before(request):
    """What SIGHUP did before."""
    known = signal.signal(signal.SIGHUP, request.param)
    yield request.param
    signal.signal(signal.SIGHUP, known)


def test_a_closed_terminal_ends_what_was_not_started_by_nohup(before):
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.is_set() == (before == signal.SIG_DFL)


def test_a_second_signal_ends_what_hangs_at_its_end():
    """As a sender does whose JSON lines nobody takes: its threads wait in the pipe, and its end for them."""
    program = """
import threading
from runtime.process import signals
signals.SAME_SIGNAL_S = 0.0
with signals.stop_on_signals() as stop:
    print("ready", flush=True)
    stop.wait()
    try:
        print("ending", flush=True)
        threading.Event().wait()
    finally:
        threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            for word in ("ready\n", "ending\n"):
                assert process.stdout.readline() == word
                process.terminate()
            assert process.wait(WAIT_S) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_a_reader_that_goes_while_it_ends_is_no_second_signal():
    program = """
from runtime.cli import event_output
from runtime.process import signals
signals.SAME_SIGNAL_S = 0.0
with signals.stop_on_signals() as stop:
    print("ready", flush=True)
    stop.wait()
    while not event_output._closed.is_set():
        event_output.print_json_line({"event": "state"})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert "state" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(WAIT_S) == 0

"""Load run with a catalogue that is away in the middle: each promised frame is in it once, and it is left empty."""

import contextlib
import json
import socket
from pathlib import Path

import pytest

from edgesem.cli.main import main
from runtime.bench.relay import Relay
from runtime.catalogue.database import PASSWORD_VARIABLE, Database
from runtime.mqtt.mosquitto import find_tool
from tests.support.postgres import PASSWORD, needs_postgres, running_postgres

FLEET = ["bench", "fleet", "--cameras", "6", "--interval", "1", "--promise-every", "2", "--json"]


@pytest.mark.long
@needs_postgres
@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_promised_frames_are_in_the_catalogue_once_although_it_was_away(monkeypatch, capsys):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with running_postgres() as server, Database(server.url) as database:
        run = [*FLEET, "--catalogue", server.url, "--seconds", "24", "--stop-catalogue-s", "12"]
        assert main([*run, "--kill-receivers", "1"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["promised"] >= 6 * 24 / 2
        told = found["in_catalogue"]
        assert (told["promised_lost"], told["promised_twice"]) == (0, 0)
        assert 0 < told["caught_up_s"] < 60
        with database.connection() as connection:
            assert connection.execute("select to_regnamespace('edgesem')").fetchone() == (None,)


@needs_postgres
def test_a_database_with_a_catalogue_is_refused_and_left_alone(monkeypatch, capsys):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with running_postgres() as server, Database(server.url) as database:
        database.prepare()
        assert main([*FLEET, "--catalogue", server.url, "--seconds", "2"]) == 1
        assert "holds a catalogue" in capsys.readouterr().out
        database.check()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--catalogue", "postgresql://a@b/c", "--promise-every", "0"], "--promise-every"),
        (["--stop-catalogue-s", "3"], "--catalogue"),
        (["--catalogue", "postgresql://a@b/c", "--stop-catalogue-s", "20"], "less time"),
        (["--catalogue", "postgresql:///c"], "name the host"),
    ],
)
def test_what_cannot_be_counted_is_refused(capsys, words, said):
    assert main([*FLEET[:-1], "--seconds", "20", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_stopped_relay_cuts_connections_and_takes_none():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Relay(target=server.getsockname()[:2], rate_bps=None) as relay,
    ):
        with _through(relay, server) as (near, far):
            near.sendall(b"there")
            assert far.recv(5) == b"there"
            far.sendall(b"back")
            assert near.recv(4) == b"back"
            relay.stop()
            assert _ended(near)
            assert _ended(far)
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as refused:
            assert _ended(refused)
        server.accept()[0].close()  # which the relay had made for it
        relay.start()
        with _through(relay, server) as (near, far):
            near.sendall(b"again")
            assert far.recv(5) == b"again"


@contextlib.contextmanager
def _through(relay, server):
    with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as near:
        far, _ = server.accept()
        far.settimeout(10)
        with far:
            yield near, far


def _ended(sock):
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True

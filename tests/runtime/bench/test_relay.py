"""The thin link: its bucket on a clock that the test holds, and the relay over real TCP."""

import select
import socket
import threading
import time

import pytest

from edgesem.errors import UsageError
from edgesem.trace import parse_rate_bps
from runtime.bench.relay import Relay, TokenBucket


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [("64kbit", 64e3), ("1mbit", 1e6), ("20kbit", 20e3), ("1.5Mbit/s", 1.5e6), ("9600bit", 9600), ("64 kbps", 64e3)],
)
def test_rates_are_read_as_people_write_them(text, rate_bps):
    assert parse_rate_bps(text) == rate_bps


@pytest.mark.parametrize("text", ["", "64", "fast", "-1kbit", "64kB", "1kbit", "2gbit", "1e9mbit", "nankbit"])
def test_other_rates_are_a_usage_error(text):
    with pytest.raises(UsageError, match="--link"):
        parse_rate_bps(text)


def test_a_burst_passes_at_once_and_debt_is_paid_back():
    bucket = TokenBucket(rate_bps=8000, burst_bytes=500)
    assert bucket.take(500, now_s=10) == 0
    assert bucket.take(1000, now_s=10) == pytest.approx(1.0)
    assert bucket.take(500, now_s=11) == pytest.approx(0.5)
    assert bucket.take(0, now_s=20) == 0


def test_idle_time_fills_no_more_than_the_burst():
    bucket = TokenBucket(rate_bps=8000, burst_bytes=500)
    bucket.take(500, now_s=0)
    assert bucket.take(1000, now_s=100) == pytest.approx(0.5)


def test_a_bucket_needs_a_positive_rate():
    with pytest.raises(ValueError, match="positive rate"):
        TokenBucket(rate_bps=0, burst_bytes=1)


class Sink:
    """A TCP server that counts what it gets, and when it got the last of it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.received = bytearray()
        self.stamps = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection, _ = self.listener.accept()
        with connection:
            while data := connection.recv(65536):
                self.received += data
                self.stamps.append((time.monotonic(), len(self.received)))

    def close(self):
        self.thread.join(timeout=10)
        self.listener.close()


def transfer(rate_bps):
    """Send one second's worth through a relay; returns the rate at which it came out."""
    sent = bytes(range(256)) * int(rate_bps / 8 / 256)
    sink = Sink()
    with Relay(target=sink.address, rate_bps=rate_bps) as relay:
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            client.sendall(sent)
        sink.close()
    assert sink.received == sent
    assert relay.forwarded_bytes == len(sent)
    (first_s, first_bytes), (last_s, last_bytes) = sink.stamps[0], sink.stamps[-1]
    return (last_bytes - first_bytes) * 8 / (last_s - first_s)


@pytest.mark.parametrize("rate_bps", [64e3, 1e6])
def test_bytes_pass_whole_and_at_the_set_rate(rate_bps):
    measured_bps = [transfer(rate_bps)]
    while measured_bps[-1] < 0.9 * rate_bps and len(measured_bps) < 4:
        measured_bps.append(transfer(rate_bps))  # a busy machine may make it slow for a moment
    assert 0.9 * rate_bps < measured_bps[-1]
    assert max(measured_bps) < 1.1 * rate_bps  # nothing may ever make it fast


def test_a_sender_feels_the_link_in_its_own_socket():
    sink = Sink()
    with Relay(target=sink.address, rate_bps=2000) as relay:
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            client.setblocking(False)
            accepted = 0
            while select.select([], [client], [], 0.2)[1]:
                accepted += client.send(bytes(1000))
        assert accepted < 24_000  # all of it in kernel buffers and one chunk: no queue of the relay's own
    sink.close()


def test_both_directions_pass():
    with socket.create_server(("127.0.0.1", 0)) as echo:

        def run():
            connection, _ = echo.accept()
            with connection:
                connection.sendall(connection.recv(100)[::-1])

        thread = threading.Thread(target=run)
        thread.start()
        with (
            Relay(target=echo.getsockname(), rate_bps=1e6) as relay,
            socket.create_connection(("127.0.0.1", relay.port), timeout=10) as client,
        ):
            client.sendall(b"abc")
            assert client.recv(100) == b"cba"
            assert client.recv(100) == b""  # the far end hung up, and so does the relay
        thread.join(timeout=10)


def test_a_target_that_is_not_there_hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    with (
        Relay(target=address, rate_bps=1e6) as relay,
        socket.create_connection(("127.0.0.1", relay.port), timeout=10) as client,
    ):
        assert client.recv(1) == b""

"""Bytes on the wire, as the kernel counts them: with headers and confirmations, and over several connections."""

import sys
import threading
import time

import pytest

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, find_tool
from tests.support.edgesem_process import WAIT_S

pytestmark = [
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts them"),
]
HEADERS_BYTES = 52
"""Of TCP with timestamps, and IPv4."""


def publish(connection, count, size_bytes):
    for _ in range(count):
        confirmed = threading.Event()
        connection.publish("edgesem/v1/t", b"x" * size_bytes, confirm=confirmed.set)
        assert confirmed.wait(WAIT_S)


def test_each_byte_counts_with_its_headers_and_those_of_earlier_connections_too():
    with Broker(kind="mosquitto") as broker:
        connection = Connection(broker.address, name="t", retry=True)
        with connection:
            deadline_s = time.monotonic() + WAIT_S
            while not connection.connected and time.monotonic() < deadline_s:
                time.sleep(0.01)
            before = connection.wire_bytes()
            assert 300 < before < 3000  # handshake, CONNECT, CONNACK
            publish(connection, 20, 1000)
            cost = connection.wire_bytes() - before
            # A PUBLISH, its acknowledgement with the PUBACK, and at most the acknowledgement of that.
            assert 20 * (1000 + 2 * HEADERS_BYTES) < cost < 20 * (1000 + 40 + 5 * HEADERS_BYTES)
            spent = connection.wire_bytes()
            connection.reconnect("a test")
            while connection.reconnects == 0 and time.monotonic() < deadline_s:
                time.sleep(0.01)
            assert connection.wire_bytes() > spent + 300
        assert connection.wire_bytes() > spent + 300

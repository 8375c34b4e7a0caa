"""What the tests of the sender share."""

import pytest

from runtime.mqtt.address import Address
from runtime.mqtt.mosquitto import find_tool
from runtime.sender.spool import Spool
from tests.support.real_broker import Mosquitto
from tests.support.sender_bench import Bench


@pytest.fixture
def make(tmp_path):
    made = []

    def make(*, promises=False, **more):
        spool = Spool(tmp_path / "a.spool", max_bytes=10**6) if promises else None
        made.append((Bench(spool=spool, **more), spool))
        return made[-1][0]

    yield make
    for bench, spool in made:
        bench.sender.__exit__()
        if spool is not None:
            spool.close()


@pytest.fixture
def address(tmp_path):
    """A real broker."""
    if find_tool("mosquitto") is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path / "broker")
    yield Address("127.0.0.1", broker.port, user="u", password="p")
    broker.kill()

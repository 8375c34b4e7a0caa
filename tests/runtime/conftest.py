"""What the tests of the runtime share."""

import pytest

from runtime.mqtt.loopback_broker import Broker


@pytest.fixture(scope="module")
def broker():
    """A mosquitto on loopback, one for all tests of a file."""
    with Broker(kind="mosquitto") as running:
        yield running

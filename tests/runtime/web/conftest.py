"""What the tests in a browser share."""

import pytest

from tests.support import wall as wall_of_cameras
from tests.support.browser import Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running
        assert running.complaints == []


@pytest.fixture(scope="module")
def walls():
    """Two receivers with live pages, by the number of cameras that each shows."""
    with wall_of_cameras.walls() as running:
        yield running


@pytest.fixture
def wall(walls, browser):
    """The browser with a wall of twenty cameras on a desktop."""
    wall_of_cameras.shown(browser, walls[20], 20)
    return browser

"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("edgesem", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("edgesem")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of hundreds of processes would compile all modules anew

LONGEST = ("fuzz", "devices/deployment", "export/training", "export/bundle", "runtime/daemon", "runtime/web")
"""Folders of the files that take longest: they come first, so that no worker has one left when the others are done."""


def pytest_collection_modifyitems(items):
    def turn(item):
        folder = os.path.relpath(item.path.parent, Path(__file__).parent)
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory):
    """State of commands that name no folder goes elsewhere than into the home of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield

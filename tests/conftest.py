"""What all tests share."""

import pytest
from hypothesis import settings

settings.register_profile("edgesem", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("edgesem")


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory):
    """State of commands that name no folder goes elsewhere than into the home of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield

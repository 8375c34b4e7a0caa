"""Boards behind a real SSH."""

import contextlib
import os
import shutil
import sys

import pytest

from devices.deployment.access import Access
from tests.support.board_stand import Stand


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    stand = Stand(tmp_path_factory.mktemp("board"))
    yield stand
    stand.close()


@pytest.fixture
def stand(board):
    """The one board of a module's tests, mended; whatever was done to it before, it must go on."""
    board.mend()
    return board


@pytest.fixture
def machines(request, tmp_path):
    """Three boards with the same paths, or as many as the test asks for, and how they are reached."""
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("boards with the same paths need root and unshare")
    at = tmp_path / "machine"
    at.mkdir()
    with contextlib.ExitStack() as stack:
        boards = {}
        for name in ("north", "south", "far")[-getattr(request, "param", 3) :]:
            (tmp_path / name).mkdir()
            boards[name] = Stand(tmp_path / name, at)
            stack.callback(boards[name].close)
        config = tmp_path / "ssh_config"
        config.write_text("".join(board.ssh_lines(name) for name, board in boards.items()))
        yield boards, Access(config=config, root=str(at), python=sys.executable)

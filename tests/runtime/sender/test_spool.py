"""The spool on disk: damaged, shared, or not ours."""

import sqlite3

import pytest

from edgesem.errors import InputError
from runtime.sender.spool import Spool


def test_a_damaged_spool_is_put_aside(tmp_path):
    path = tmp_path / "a.spool"
    path.write_bytes(b"no database" * 1000)
    spool = Spool(path, max_bytes=10**6)
    spool.add(epoch=1, frame=2, packet=b"x")
    spool.close()
    assert [p.name for p in tmp_path.glob("a.spool.damaged-*")]


def test_two_senders_cannot_share_a_spool(tmp_path):
    spool = Spool(tmp_path / "a.spool", max_bytes=10**6)
    spool.add(epoch=1, frame=2, packet=b"x")
    with pytest.raises(InputError, match="locked"):
        Spool(tmp_path / "a.spool", max_bytes=10**6)
    assert spool.delivered([(1, 2), (1, 3)]) == 1
    assert spool.waiting == 0
    spool.close()


def test_a_spool_of_a_stranger_is_an_error(tmp_path):
    path = tmp_path / "a.spool"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE promised (other INTEGER)")
    db.close()
    with pytest.raises(InputError, match="cannot keep"):
        Spool(path, max_bytes=10**6)

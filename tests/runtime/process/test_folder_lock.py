"""Lock on a folder: who holds it, when it is released, and what it needs of a folder and of its file system."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from edgesem.errors import EnvironmentMissing, InputError
from runtime.process.folder_lock import locked_folder

HOLDER = """\
import subprocess, sys
from pathlib import Path
from runtime.process.folder_lock import locked_folder
with locked_folder(Path(sys.argv[1]), owner="it", setting="out.folder"):
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def locked(folder):
    return locked_folder(folder, owner="another", setting="out.folder")


def test_a_folder_is_made_and_one_at_a_time_holds_it_and_nothing_is_left_in_it(tmp_path):
    folder = tmp_path / "a/b"
    with locked(folder), pytest.raises(EnvironmentMissing, match=r"another runs .* by out\.folder"), locked(folder):
        pass
    with locked(folder):
        assert list(folder.iterdir()) == []


def test_what_a_killed_process_has_started_does_not_keep_its_lock(tmp_path):
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        child = int(holder.stdout.readline())
        with pytest.raises(EnvironmentMissing), locked(tmp_path):
            pass
        feed = os.open(f"/proc/{child}/fd/0", os.O_WRONLY)  # so that the child goes on
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            os.kill(child, 0)
    os.close(feed)


def test_a_folder_that_may_only_be_read_can_be_locked(tmp_path):
    tmp_path.chmod(0o555)
    with locked(tmp_path):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be used: .*; name another by out\.folder"), locked(tmp_path / "file"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_costs_a_log_line(tmp_path, monkeypatch, caplog, number):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    with locked(tmp_path):
        assert f"{tmp_path} cannot be locked: {os.strerror(number)}" in caplog.text

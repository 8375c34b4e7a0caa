"""Key files: written whole, never overwritten, and an empty one is none."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from edgesem.errors import InputError
from edgesem.packet.keys import Identity, new_key, read_key, write_private


def test_an_empty_key_file_of_a_power_cut_is_made_anew(tmp_path):
    path = tmp_path / "identity.key"
    path.touch(mode=0o600)
    identity = Identity.open(path)
    assert Identity.open(path).public_key == identity.public_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity.key"]


def test_senders_that_begin_at_the_same_time_get_one_identity(tmp_path):
    """The cameras of one board, whose units start together at its first boot."""
    count = 8
    together = Barrier(count)

    def begin(trial: int) -> bytes:
        together.wait()
        return Identity.open(tmp_path / f"{trial}.key").public_key

    with ThreadPoolExecutor(count) as pool:
        for trial in range(20):
            assert len(set(pool.map(begin, [trial] * count))) == 1


@pytest.mark.parametrize("content", ["damaged\n", "a\nb\n", "AAAA\n"])
def test_a_damaged_identity_is_no_wrong_option(tmp_path, content):
    path = tmp_path / "identity.key"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(InputError, match="restore it, or remove it") as error:
        Identity.open(path)
    assert error.value.exit_code == 1
    assert path.read_text() == content


def test_a_key_is_never_overwritten_and_nothing_half_written_stays(tmp_path, monkeypatch):
    path = tmp_path / "seal.key"
    new_key(path)
    key = read_key(path)
    with pytest.raises(InputError, match="never overwritten"):
        new_key(path)
    assert read_key(path) == key

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgesem.packet.keys.os.fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        new_key(tmp_path / "other.key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["seal.key"]


def test_a_private_file_is_whole_or_not_there(tmp_path, monkeypatch):
    def cut(_):
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="power cut"):
        write_private(tmp_path / "password", "secret")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_private(tmp_path / "password", "secret")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "password", "other")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600

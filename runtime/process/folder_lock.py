"""Lock on a folder that one process at a time may write; the kernel releases it when that process ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from edgesem.errors import EnvironmentMissing, InputError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked_folder(folder: Path, *, owner: str, setting: str, mode: int = 0o777) -> Iterator[None]:
    """Make a folder, if it is not there, and hold its lock inside the `with`.

    The folder itself is locked: that leaves no file behind, and works on a full disk. `owner` says in the error who
    holds it, `setting` by what another folder is named. Raises EnvironmentMissing if another process of this machine
    holds it, InputError if the folder cannot be made or opened. A file system without locks costs a log line.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"{folder} cannot be used: {error.strerror}; name another by {setting}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentMissing(
                f"{owner} runs with the files in {folder} already: stop it, or name another folder by {setting}"
            ) from None
        except OSError as error:
            log.warning("%s cannot be locked: %s; see that no other process writes there", folder, error.strerror)
        yield
    finally:
        os.close(handle)

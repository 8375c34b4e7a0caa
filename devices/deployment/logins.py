"""Logins: the latest login of each device at its broker, from `edgesem fleet accounts` to the boards over SSH.

`logins.json` in the folder of the accounts has what boards are to be brought, USER:PASSWORD by SITE/DEVICE;
`proven.json` has the names of those that a board was seen with: `edgesem fleet accounts` drops those before them.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from devices.deployment.deploy import Board, Progress, deploy
from devices.deployment.rollout import hold
from edgesem.errors import InputError
from edgesem.packet.keys import write_private

FILE = "login"
"""In /etc/edgesem; send.toml names it: `login_file = "/etc/edgesem/login"` in [broker]."""
_MAX_BYTES = 16 << 20


class Logins:
    """Logins in the folder of `edgesem fleet accounts`. Thread-safe. InputError for a folder that has none."""

    def __init__(self, folder: Path) -> None:
        self._proven, self._lock = folder / "proven.json", threading.Lock()
        found = _read(folder / "logins.json")
        if not isinstance(found, dict) or not all(isinstance(login, str) and ":" in login for login in found.values()):
            raise InputError(f"{folder / 'logins.json'} does not hold logins: make it with edgesem fleet accounts")
        self.of: dict[str, str] = found
        """USER:PASSWORD that a board is to be brought, by device (SITE/DEVICE)."""

    def bring(
        self,
        board: Board,
        device: str,
        *,
        health_s: float = 90.0,
        hold_s: float = 30.0,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> Progress:
        """Bring a board its login, if it was not seen with it yet; the board goes back to the earlier one by itself.

        Raises nothing for what the board or the link does, and InputError if `proven.json` cannot be written.
        """
        login = self.of.get(device)
        if login is None:
            return Progress(board.host, step="has its login", ok=True)
        files = {FILE: f"{login}\n".encode()}
        progress = deploy(board, None, config=files, health_s=health_s, tell=tell)
        if progress.ok:
            user = login.partition(":")[0]
            hold(board, progress, hold_s, tell, user)
            if progress.ok:
                self._note(user)
        return progress

    def _note(self, user: str) -> None:
        with self._lock:
            found = _read(self._proven) if self._proven.exists() else []
            if not isinstance(found, list):
                raise InputError(f"{self._proven} does not hold a list of logins: remove it")
            fresh = self._proven.with_name(f".{secrets.token_hex(8)}.part")
            try:
                write_private(fresh, json.dumps(sorted({*map(str, found), user})) + "\n")
                os.replace(fresh, self._proven)
            except OSError as error:
                raise InputError(f"cannot write {self._proven}: {error.strerror}") from error


def _read(path: Path) -> object:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        return json.loads(data) if len(data) <= _MAX_BYTES else None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        return None

"""Rollout: a deployment over the groups of an inventory, group after group, that stops where boards do not stay well.

No file says how far it has come: a board that runs the release already is only looked at. So the same command goes on
where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.deployment.access import check_host
from devices.deployment.deploy import Board, Progress, failure, for_each
from edgesem.config import read_toml
from edgesem.errors import LinkError, UsageError

NOT_BEGUN = "not begun"
_SENDER = "edgesem-sender.service"
_TRIES, _ASK_S = 3, 60.0
"""How often a board is asked before it counts as silent, and how long each time."""


@dataclass(frozen=True)
class Group:
    """Boards that are brought up together: the name of the group, and device (SITE/DEVICE) by host."""

    name: str
    devices: Mapping[str, str]


def read_groups(path: Path, names: Sequence[str]) -> list[Group]:
    """The groups `names` of an inventory in this order, each board in the first that has it; all boards for no names.

    Each device needs a `host`. InputError if the file cannot be read, UsageError for a group that has no device, or a
    device without a host.
    """
    sections = read_toml(path).get("devices")
    if not isinstance(sections, Mapping) or not all(isinstance(one, Mapping) for one in sections.values()):
        raise UsageError(f'{path}: devices must be sections, such as [devices."home/gate"]')
    groups, taken = [], set[str]()
    for name in names or [""]:
        chosen = {key: value for key, value in sections.items() if not name or name in _texts(path, key, value)}
        if not chosen:
            raise UsageError(f"{path}: no device is in the group {name!r}" if name else f"{path}: it has no device")
        left = {_host(path, key, value): key for key, value in chosen.items() if key not in taken}
        if len(left) != sum(key not in taken for key in chosen):
            raise UsageError(f"{path}: two devices of the group {name!r} have one host")
        taken |= chosen.keys()
        groups.append(Group(name or "all", left))
    return groups


def _texts(path: Path, key: str, value: Mapping[str, Any]) -> list[str]:
    groups = value.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise UsageError(f'{path}: devices."{key}": groups must be a list of texts')
    return groups


def _host(path: Path, key: str, value: Mapping[str, Any]) -> str:
    host = value.get("host")
    if not isinstance(host, str):
        raise UsageError(f'{path}: devices."{key}" has no host: write host = "user@name"')
    check_host(host)
    return host


def roll_out(
    groups: Sequence[Group],
    bring: Callable[[str], Progress],
    *,
    at_once: int = 8,
    stop_after: int = 1,
) -> list[Progress]:
    """What became of each board, in the order of the groups; `bring` brings one up and says how it ended.

    `at_once` boards of one group are under way. Once `stop_after` boards have failed, no other is begun; those that are
    under way are waited for.
    """
    failures, lock = 0, threading.Lock()

    def work(host: str) -> Progress:
        nonlocal failures
        with lock:
            if failures >= stop_after:
                return Progress(host, step=NOT_BEGUN)
        progress = bring(host)
        with lock:
            failures += not progress.ok
        return progress

    ended = []
    for group in groups:
        for progress in for_each(list(group.devices), work, at_once):
            progress.group, progress.device = group.name, group.devices[progress.host]
            ended.append(progress)
    return ended


def hold(
    board: Board,
    progress: Progress,
    hold_s: float,
    tell: Callable[[Progress], None] = lambda _: None,
    user: str = "",
) -> None:
    """See whether a board is still well so many seconds after it was brought up; if not, `progress` says why.

    It must run what it was brought, with all its units, and its sender's frames must be acknowledged meanwhile. With a
    `user`, its sender must be logged in as that one.
    """
    progress.step = "looked at"
    tell(progress)
    try:
        before = _status(board)
        time.sleep(hold_s)
        trouble = _trouble(before, _status(board), progress.running, user)
    except Exception as error:  # as in a deployment: the others go on
        trouble = f"silent: {failure(error, board.host)}"
    progress.ok, progress.message = not trouble, trouble
    progress.step = "not well" if trouble else "done"
    tell(progress)


def _status(board: Board) -> dict[str, Any]:
    for _ in range(_TRIES - 1):
        try:
            return board.ask("status", quiet_s=_ASK_S)
        except LinkError:
            continue
    return board.ask("status", quiet_s=_ASK_S)


def _trouble(before: Mapping[str, Any], after: Mapping[str, Any], version: str | None, user: str) -> str:
    """What is wrong by two answers to `status`; nothing if all is well."""
    if after.get("running") != version or after.get("on_probation"):
        return f"it runs {after.get('running') or 'nothing'}"
    units: Mapping[str, str] = after.get("units", {})
    if ill := [f"{unit} is {state}" for unit, state in units.items() if state != "active"]:
        return ", ".join(ill)
    if user and after.get("sender", {}).get("user") != user:
        seen = after.get("sender", {}).get("user") or "nobody"
        return f'its sender is logged in as {seen}: its send.toml needs login_file = "/etc/edgesem/login" in [broker]'
    if _SENDER in units:
        first, last = before.get("sender", {}), after.get("sender", {})
        if first.get("pid") != last.get("pid"):
            return f"{_SENDER} has begun anew"
        counts = first.get("acknowledged"), last.get("acknowledged")
        if not all(isinstance(count, int) for count in counts) or not counts[1] > counts[0]:
            return f"no frame was acknowledged: {counts[0]} before, {counts[1]} after"
    return ""

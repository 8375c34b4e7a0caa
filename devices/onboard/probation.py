"""A switch to another release, which is undone unless it was found well and confirmed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from devices.onboard.place import FILE_NAME, Place, Refused, Say, load, sync_folder, write_whole
from devices.onboard.services import Services, prepare_system

ENOUGH_ACKNOWLEDGED = 3  # layers: less than one whole frame, so that a slow stream proves itself too


def switch(
    place: Place,
    services: Services,
    version: str,
    say: Say,
    *,
    health_s: float,
    staged: dict[str, Any],
    confirm: Callable[[], bool],
) -> None:
    """Run `version` with the files `staged` in /etc/edgesem, and stay with both only if all is healthy and `confirm()`
    says so; Refused after going back.
    """
    if version not in place.complete():
        raise Refused(f"release {version} is not on the board: there are {', '.join(place.complete()) or 'none'}")
    back = place.running()
    prepare_system(place)
    changes = back != version or bool(staged)
    if changes:
        lay_agent(place, version, replace=False)
        pending: dict[str, Any] = {"to": version, "back": back, "etc": {}}
        for name in staged:
            with contextlib.suppress(FileNotFoundError), open(os.path.join(place.etc, name), "rb") as file:
                pending["etc"][name] = base64.b64encode(file.read()).decode()
            pending["etc"].setdefault(name)
        write_whole(place.pending, json.dumps(pending).encode(), 0o600)
    try:
        lay_configuration(place, staged)
        services.apply(version)
        say("switched")
        if services.wanted():
            services.healthy(health_s, ENOUGH_ACKNOWLEDGED, say)
        elif services.there:
            raise Refused(f"no configuration in {place.etc}, so nothing would run: put send.toml there")
        if not confirm():
            raise Refused("the connection was lost before the switch was confirmed")
    except BaseException as error:
        if changes:
            settle(place, services)
            raise Refused(f"{error}; back to {back or 'nothing'}") from error
        raise
    if changes:
        if back != version:
            write_whole(place.state, json.dumps({"previous": back, "since_s": int(time.time())}).encode())
        _forget(place)
        lay_agent(place, version, replace=True)


def settle(place: Place, services: Services, start: bool = True) -> str | None:
    """End a probation that nobody watches any more: back to the release before. Returns the one left, or None."""
    pending = load(place.pending)
    if not pending:
        return None
    back = pending["back"] if pending.get("back") in place.complete() else None
    lay_configuration(place, pending.get("etc", {}))
    services.apply(back, start)
    _forget(place)
    return str(pending.get("to"))


def _forget(place: Place) -> None:
    """The probation is over."""
    for path in (place.staged, place.pending):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_folder(place.base)


def lay_agent(place: Place, version: str, replace: bool) -> None:
    """Put this program where the units find it at boot, outside of any release that might have to go."""
    target = os.path.join(place.base, "agent.py")
    if replace or not os.path.exists(target):
        with open(os.path.join(place.release(version), "agent.py"), "rb") as file:
            write_whole(target, file.read())


def configure(place: Place, data: bytes) -> list[str]:
    """Keep files for /etc/edgesem until the next switch, which brings them in, and takes them out if it goes back."""
    try:
        files = json.loads(data)
        good = all(FILE_NAME.fullmatch(name) and text.isascii() for name, text in files.items())
    except (ValueError, AttributeError, TypeError):
        raise Refused("the configuration was cut on its way: deploy again") from None
    if not good:
        raise Refused("a configuration file has no proper name")
    write_whole(place.staged, data, 0o600)
    return sorted(files)


def lay_configuration(place: Place, files: dict[str, str | None]) -> None:
    """Write files, given in base64, to /etc/edgesem; None deletes one."""
    os.makedirs(place.etc, mode=0o750, exist_ok=True)
    for name, text in files.items():
        path = os.path.join(place.etc, name)
        if text is not None:
            write_whole(path, base64.b64decode(text), 0o600)
        elif os.path.exists(path):
            os.unlink(path)
    prepare_system(place)

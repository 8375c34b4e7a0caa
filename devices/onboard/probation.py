"""Probation: a switch to another release, which is undone unless it proves healthy and is confirmed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from devices.onboard.layout import (
    FILE_NAME,
    MAX_MANIFEST_BYTES,
    Layout,
    Refused,
    Report,
    exchange,
    load,
    remove_kept,
    sync_folder,
    write_whole,
)
from devices.onboard.services import Services, prepare_system

ENOUGH_ACKNOWLEDGED = 3  # layers: less than one whole frame, so that a slow stream proves itself too


def switch(
    layout: Layout,
    services: Services,
    version: str,
    report: Report,
    *,
    health_s: float,
    staged: dict[str, Any],
    confirm: Callable[[], bool],
) -> None:
    """Run `version` with the files `staged` in /etc/edgesem, and stay with both only if all is healthy and `confirm()`
    says so; Refused after going back.
    """
    if version not in layout.complete():
        raise Refused(f"release {version} is not on the board: there are {', '.join(layout.complete()) or 'none'}")
    back = layout.running()
    prepare_system(layout)
    changes = back != version or bool(staged)
    if changes:
        install_agent(layout, version, replace=False)
        remove_kept(layout.etc, layout.units)  # an agent that knows of none may have settled the last switch
        pending: dict[str, Any] = {"to": version, "back": back, "etc": {}}
        for name in staged:
            with contextlib.suppress(FileNotFoundError), open(os.path.join(layout.etc, name), "rb") as file:
                pending["etc"][name] = base64.b64encode(file.read()).decode()
            pending["etc"].setdefault(name)
        write_whole(layout.pending, json.dumps(pending).encode(), 0o600)
    try:
        write_configuration(layout, staged, keep=changes)
        services.apply(version, keep=changes)
        report("switched")
        if services.wanted():
            services.wait_until_healthy(health_s, ENOUGH_ACKNOWLEDGED, report)
        elif services.there:
            raise Refused(f"no configuration in {layout.etc}, so nothing would run: put send.toml there")
        if not confirm():
            raise Refused("the connection was lost before the switch was confirmed")
        if changes:  # what a full disk forbids now must lead back too
            install_agent(layout, version, replace=True)
            if back != version:
                write_whole(layout.state, json.dumps({"previous": back, "since_s": int(time.time())}).encode())
    except BaseException as error:
        if changes:
            settle(layout, services)
            raise Refused(f"{error}; back to {back or 'nothing'}") from error
        raise
    if changes:
        _end_probation(layout)


def settle(layout: Layout, services: Services, start: bool = True) -> str | None:
    """End an abandoned probation: back to the release before. Returns the version that was on probation, or None."""
    pending = load(layout.pending)
    if not pending:
        return None
    back = pending["back"] if pending.get("back") in layout.complete() else None
    write_configuration(layout, pending.get("etc", {}))
    services.apply(back, start)
    _end_probation(layout)
    return str(pending.get("to"))


def _end_probation(layout: Layout) -> None:
    """Remove what a probation has left; the note of it last."""
    remove_kept(layout.etc, layout.units)
    for path in (layout.staged, layout.pending):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_folder(layout.base)


def install_agent(layout: Layout, version: str, replace: bool) -> None:
    """Put this program where the units find it at boot, outside of any release that might have to go."""
    target = os.path.join(layout.base, "agent.py")
    if replace or not os.path.exists(target):
        with open(os.path.join(layout.release(version), "agent.py"), "rb") as file:
            write_whole(target, file.read())


def configure(layout: Layout, data: bytes) -> list[str]:
    """Keep files for /etc/edgesem until the next switch, which brings them in, and takes them out if it goes back."""
    try:
        files = json.loads(data)
        good = all(FILE_NAME.fullmatch(name) and text.isascii() for name, text in files.items())
    except (ValueError, AttributeError, TypeError):
        raise Refused("the configuration was cut on its way: deploy again") from None
    if not good:
        raise Refused("a configuration file has no proper name")
    write_whole(layout.staged, data, 0o600)
    return sorted(files)


def staged_configuration(layout: Layout, digest: str) -> dict[str, Any]:
    """The files that `configure` has kept; Refused if they are not those with this SHA-256."""
    with contextlib.suppress(OSError), open(layout.staged, "rb") as file:
        data = file.read(MAX_MANIFEST_BYTES)
        if hashlib.sha256(data).hexdigest() == digest:
            return dict(json.loads(data))
    raise Refused("somebody else has brought a configuration or switched meanwhile: deploy again")


def write_configuration(layout: Layout, files: dict[str, str | None], keep: bool = False) -> None:
    """Write files, given in base64, to /etc/edgesem; None deletes one. `keep` those of before for a way back."""
    os.makedirs(layout.etc, mode=0o750, exist_ok=True)
    for name, text in files.items():
        path = os.path.join(layout.etc, name)
        if text is not None:
            exchange(path, base64.b64decode(text), 0o600, keep)
        elif os.path.exists(path):
            os.unlink(path)
    prepare_system(layout)

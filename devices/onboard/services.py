"""Systemd services of the release that runs: started, stopped, and checked for health."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import time
from typing import Any

from devices.onboard.layout import Layout, Refused, Report, exchange, load, run_program, sync_folder

ENGINE = "edgesem-engine.service"  # there only on boards with TensorRT
UNITS = {"send.toml": "edgesem-sender.service", "receive.toml": "edgesem-receiver.service"}


class Services:
    """The board's systemd; below a prefix, the systemctl that lies there, or none."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.systemctl = "systemctl"
        if layout.root != "/":
            self.systemctl = os.path.join(layout.root, "usr/bin/systemctl")
        self.there = bool(shutil.which(self.systemctl))
        self._before: dict[str, Any] = {}

    def wanted(self) -> list[str]:
        """The units whose configuration lies in /etc/edgesem."""
        return [unit for name, unit in UNITS.items() if os.path.exists(os.path.join(self.layout.etc, name))]

    def apply(self, version: str | None, start: bool = True, keep: bool = False) -> None:
        """Make `version` (None: nothing) what runs now and after the next boot; `keep` the units of before for a way
        back.
        """
        layout = self.layout
        if version is None:
            if self.there:
                self._call("stop", *UNITS.values())
            with contextlib.suppress(FileNotFoundError):
                os.unlink(layout.current)
            return
        self._install_units(os.path.join(layout.release(version), "units"), keep)
        fresh = layout.current + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(os.path.join("releases", version), fresh)
        os.replace(fresh, layout.current)
        sync_folder(layout.base)
        if not self.there:
            return
        self._call("daemon-reload")
        engine = [ENGINE] if os.path.exists(os.path.join(layout.release(version), "units", ENGINE)) else []
        if self.wanted():
            self._call("enable", "edgesem-settle.service", "edgesem-settle.timer", *engine, *self.wanted())
        if start:
            # The process that goes away may still write its status, and must not vouch for the one that comes.
            self._before = {unit: load(self.status_file(unit)).get("pid") for unit in self.wanted()}
            if self.wanted():
                # Without waiting: a unit that never gets ready is what the health check is for.
                self._call("restart", "--no-block", "edgesem-settle.timer", *self.wanted(), *engine)

    def _install_units(self, units: str, keep: bool) -> None:
        for folder, _, names in os.walk(units):
            into = os.path.normpath(os.path.join(self.layout.units, os.path.relpath(folder, units)))
            os.makedirs(into, exist_ok=True)
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    content = file.read()
                exchange(os.path.join(into, name), content, keep=keep)

    def _call(self, *args: str) -> None:
        run_program([self.systemctl, *args])

    def state(self, unit: str) -> str:
        """What systemd says of a unit: active, activating, failed, inactive ... or unknown."""
        if not self.there:
            return "unknown"
        argv = [self.systemctl, "is-active", unit]
        out = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        return out.decode("utf-8", "replace").strip() or "unknown"

    def status_file(self, unit: str) -> str:
        """Path of the status that a daemon writes while it runs."""
        return os.path.join(self.layout.run, "send.json" if "sender" in unit else "receive.json")

    def wait_until_healthy(self, seconds: float, acknowledged: int, report: Report) -> None:
        """Wait until each unit runs and the sender's frames are acknowledged; Refused when it is not so in time."""
        end = time.monotonic() + seconds
        for unit in self.wanted():
            sender = "sender" in unit
            first, pid, verdict = None, None, "gives no status"
            while True:
                state, status = self.state(unit), load(self.status_file(unit))
                if sender and status and status.get("pid") != self._before.get(unit):
                    count = status.get("acknowledged")
                    if status.get("pid") != pid:  # a new process counts anew: one that dies and comes back is not well
                        pid, first = status.get("pid"), count
                    verdict = f"has {status.get('frames')} frames sent, {count} acknowledged"
                    if state == "active" and isinstance(count, int) and count - (first or 0) >= acknowledged:
                        break
                elif not sender and state == "active" and time.monotonic() > end - seconds + min(10, seconds / 2):
                    break
                if state == "failed":
                    raise Refused(f"{unit} has failed, it {verdict}; see edgesem device logs")
                if time.monotonic() > end:
                    raise Refused(f"{unit} is {state} after {seconds:.0f} s and {verdict}")
                time.sleep(0.2)
            report(f"{unit} is well")


def prepare_system(layout: Layout) -> None:
    """The user that the services run as, and a folder for secrets that only it and root can read."""
    os.makedirs(layout.etc, mode=0o750, exist_ok=True)
    if layout.root != "/" or os.geteuid():
        return
    try:
        pwd.getpwnam("edgesem")
    except KeyError:
        run_program(
            ["useradd", "--system", "--home-dir", "/var/lib/edgesem", "--shell", "/usr/sbin/nologin", "edgesem"]
        )
    hand_over(layout.etc, 0, grp.getgrnam("edgesem").gr_gid)


def hand_over(top: str, owner: int, group: int) -> None:
    """Let `owner` and `group` alone read a folder and all in it, but nothing that a symbolic link leads to."""
    for folder, _, names in os.walk(top):
        os.chown(folder, owner, group)
        os.chmod(folder, 0o750)  # it may have been made before, for root alone
        for path in (os.path.join(folder, name) for name in names):
            if not os.path.islink(path):
                os.chown(path, owner, group)
                os.chmod(path, 0o640)

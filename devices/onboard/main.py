"""Program on the board: one step of a deployment, or of the first boot, a call."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from devices.onboard.intake import facts, install, keep_blob, missing, receive, remove_unused_blobs
from devices.onboard.layout import MAX_MANIFEST_BYTES, Busy, Layout, Refused, Report, checked, load
from devices.onboard.probation import configure, install_agent, settle, staged_configuration, switch
from devices.onboard.services import Services, prepare_system

_STEPS = ("facts", "missing", "receive", "install", "configure", "switch", "take", "rollback", "settle", "status")


def status(layout: Layout, services: Services) -> dict[str, Any]:
    """State of the board: releases, units, and the sender's status file."""
    return {
        **facts(layout),
        "previous": load(layout.state).get("previous"),
        "on_probation": load(layout.pending).get("to"),
        "units": {unit: services.state(unit) for unit in services.wanted()},
        "sender": load(services.status_file("edgesem-sender.service")),
    }


def take(layout: Layout, folder: str, report: Report) -> str:
    """Install what lies in a folder of the card or of the root file system, and return its version.

    That is the first boot: there is no network yet, nothing to go back to, and nobody to confirm. If it was cut, it is
    done again; if another release was deployed meanwhile, that one stays.
    """
    manifest = checked(load(os.path.join(folder, "manifest.json")))
    running = layout.running()
    if running not in (None, manifest["version"]):
        return str(running)
    missing(layout, manifest)  # deletes first what was cut half-way: it must not take the room for its repetition
    os.makedirs(layout.blobs, exist_ok=True)
    for digest, _ in manifest["files"].values():
        if not os.path.exists(os.path.join(layout.blobs, digest)):
            with open(os.path.join(folder, "blobs", digest), "rb") as file:
                keep_blob(layout, digest, file)
    prepare_system(layout)
    install(layout, manifest, report)
    install_agent(layout, manifest["version"], replace=True)
    return str(manifest["version"])


def confirmed_by(seconds: float, report: Report) -> Callable[[], bool]:
    """A function that waits for the word `confirm` on stdin; False at its end, and after `seconds`."""

    def wait() -> bool:
        report("healthy")
        ready, _, _ = select.select([0], [], [], seconds)
        return bool(ready) and os.read(0, 64).strip() == b"confirm"

    return wait


def main(argv: list[str] | None = None) -> int:
    """Run one step; its answer is the last line on stdout, a JSON object, and exit code 1 says that it was refused."""
    parser = argparse.ArgumentParser(description="edgesem on the board")
    parser.add_argument("step", choices=_STEPS)
    parser.add_argument("argument", nargs="?", default="")
    parser.add_argument("--root", default="/")
    parser.add_argument("--health-s", type=float, default=90)
    parser.add_argument("--confirm-s", type=float, default=60)
    parser.add_argument("--configured", default="", help="with switch: SHA-256 of what configure has left, to bring in")
    parser.add_argument("--no-start", action="store_true")
    parser.add_argument("--if-abandoned", action="store_true", help="with settle: it is well if somebody watches")
    options = parser.parse_args(argv)
    for name in ("SIGHUP", "SIGPIPE"):  # a cut connection must not kill what has to switch back
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.umask(0o022)
    layout = Layout(options.root)
    services = Services(layout)

    def report(word: str) -> None:
        with contextlib.suppress(OSError):
            print(json.dumps({"step": word}), flush=True)

    def manifest() -> dict[str, Any]:
        data = sys.stdin.buffer.read(MAX_MANIFEST_BYTES)
        try:
            return checked(json.loads(data))
        except ValueError:
            raise Refused("the manifest was cut on its way: deploy again") from None

    def run() -> dict[str, Any]:
        if options.step == "facts":
            return facts(layout)
        if options.step == "status":
            return status(layout, services)
        with layout.lock():
            left = settle(layout, services, start=not options.no_start)
            if options.step == "settle":
                return {"left": left}
            if options.step == "missing":
                return {"missing": missing(layout, manifest())}
            if options.step == "receive":
                return {"received": receive(layout, sys.stdin.buffer)}
            if options.step == "install":
                install(layout, manifest(), report)
                return {"installed": True}
            if options.step == "configure":
                return {"configured": configure(layout, sys.stdin.buffer.read(MAX_MANIFEST_BYTES))}
            if options.step == "take":
                version = take(layout, options.argument, report)
                services.apply(version, start=not options.no_start)
            elif options.step == "rollback":
                version = options.argument or load(layout.state).get("previous") or ""
                if not version:
                    raise Refused("there is no release to go back to")
                switch(layout, services, version, report, health_s=options.health_s, staged={}, confirm=lambda: True)
            else:
                version = options.argument
                staged = staged_configuration(layout, options.configured) if options.configured else {}
                confirm = confirmed_by(options.confirm_s, report)
                switch(layout, services, version, report, health_s=options.health_s, staged=staged, confirm=confirm)
            remove_unused_blobs(layout)
            return {"running": version}

    try:
        answer, code = run(), 0
    except Busy as error:
        answer, code = {"error": str(error)}, 0 if options.if_abandoned else 1
    except Refused as error:
        answer, code = {"error": str(error)}, 1
    except OSError as error:
        answer, code = {"error": f"{error.filename or layout.base}: {error.strerror or error}"}, 1
    with contextlib.suppress(OSError):
        print(json.dumps(answer), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())

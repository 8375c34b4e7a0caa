"""The unit of the first boot under a real systemd, whose machine is cut off while it installs.

The manager is one of a user in namespaces of its own, so that killing it ends all that it began, as a power cut does.
In the agent's place is a program that does with systemd what the agent does.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devices.provision.seed import first_boot_unit
from tests.support.board_stand import until

AGENT = """\
import os, signal, subprocess
def note(word):
    with open("{folder}/log", "a") as file:
        print(word, file=file)
def systemctl(*words):
    subprocess.run(["systemctl", "--user", *words], check=True)
note("installing")
if not os.path.exists("{folder}/second"):
    signal.pause()
systemctl("daemon-reload")
systemctl("enable", "edgesem-sender.service")
systemctl("restart", "--no-block", "edgesem-sender.service")
asked = ["systemctl", "--user", "is-active", "--quiet", "edgesem-sender.service"]
note("waits" if all(subprocess.run(asked).returncode for _ in range(10)) else "begun")
note("installed")
"""
SENDER = """\
[Service]
ExecStart=/bin/sh -c 'echo sending >> {folder}/log; exec sleep infinity'
[Install]
WantedBy=default.target
"""
BOOT = """\
mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/user && export XDG_RUNTIME_DIR=/run/user || exit
systemd --user &
until [ -S /run/user/systemd/private ]; do sleep 0.1; kill -0 $! || exit; done
for command in "$@"; do systemctl --user $command; done
wait
"""


@contextlib.contextmanager
def booted(folder: Path, *commands: str):
    """A machine with systemd, on which `systemctl` has run some commands; its power is cut at the end of the block."""
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT, "sh", *commands]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    with (folder / "systemd.log").open("ab") as log:
        child = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_an_installation_that_is_cut_begins_again_and_the_sender_waits_for_it(tmp_path):
    if os.geteuid() or not all(map(shutil.which, ("systemd", "systemctl", "unshare"))):
        pytest.skip("needs root, systemd and unshare")
    seed, units = tmp_path / "seed", tmp_path / "systemd/user"
    for folder in (seed, units):
        folder.mkdir(parents=True)
    (seed / "manifest.json").write_text("{}")
    (seed / "agent.py").write_text(AGENT.format(folder=tmp_path))
    unit = first_boot_unit(str(seed)).decode()
    for ours, here in (("/systemctl ", "/systemctl --user "), ("multi-user.target", "default.target")):
        assert ours in unit
        unit = unit.replace(ours, here)
    (units / "edgesem-firstboot.service").write_text(unit)
    (units / "edgesem-sender.service").write_text(SENDER.format(folder=tmp_path))
    enabled = units / "default.target.wants/edgesem-firstboot.service"

    def said() -> list[str]:
        return (tmp_path / "log").read_text().split() if (tmp_path / "log").exists() else []

    with booted(tmp_path, "enable edgesem-firstboot.service", "start edgesem-firstboot.service") as machine:
        until(lambda: said() or machine.poll() is not None, 60)
        if not said():
            pytest.skip(f"systemd does not start here: {(tmp_path / 'systemd.log').read_text()[-500:]}")
    assert enabled.is_symlink()
    (tmp_path / "second").touch()
    with booted(tmp_path):
        until(lambda: "sending" in said(), 60)
        assert said() == ["installing", "installing", "waits", "installed", "sending"]
        assert not enabled.is_symlink()  # the sender waits until that is done too
    with booted(tmp_path):
        until(lambda: said().count("sending") == 2, 60)
    assert said().count("installing") == 2

"""Seed of a fresh system's first boot: cloud-init's files, or the script for images from before cloud-init.

Everything is written as JSON, which YAML contains: a password with a colon or a quote in it stays what it is.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
from typing import Any

from devices.provision.setup import ETC, Setup


def cloud_init(setup: Setup, boot: str) -> dict[str, bytes]:
    """The seed, file by file, for a card whose boot partition the system mounts on `boot`."""
    user: dict[str, Any] = {
        # One `user`, not `users`: the plural would lose the groups for camera and pins that the image gives its own.
        "name": setup.user.name,
        "shell": "/bin/bash",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "lock_passwd": not setup.user.password_hash,
        "ssh_authorized_keys": list(setup.user.ssh_keys),
    }
    if setup.user.password_hash:
        user["passwd"] = setup.user.password_hash
    data = {
        "hostname": setup.hostname,
        "manage_etc_hosts": True,
        "timezone": setup.timezone,
        "user": user,
        "ssh_pwauth": not setup.user.ssh_keys,  # a password lets in where there is no key, as in firstrun.sh
        # No owner: it would be looked up before the user exists. The agent hands the folder over.
        "write_files": [
            *(_file(ETC + name, "0640", text) for name, text in sorted(setup.etc.items())),
            _file(f"/etc/systemd/system/{_FIRST_BOOT_UNIT}", "0644", first_boot_unit(f"{boot}/edgesem")),
        ],
        # cloud-init never runs a command again, also if a power cut ended it. So what takes minutes is a unit, and what
        # the next boot needs is on the card before it begins.
        "runcmd": [
            ["systemctl", "enable", _FIRST_BOOT_UNIT],
            ["systemctl", "enable", "ssh"],
            ["sync"],
            ["systemctl", "start", "ssh"],
            ["systemctl", "start", _FIRST_BOOT_UNIT],
        ],
    }
    identity = f"edgesem-{setup.hostname}-{secrets.token_hex(4)}"  # new for each card, or cloud-init would do nothing
    files = {
        "user-data": b"#cloud-config\n" + _json(data),
        "meta-data": _json({"instance-id": identity, "local-hostname": setup.hostname}),
    }
    if setup.wifi.ssid:
        point = {"password": setup.wifi.password, **({"hidden": True} if setup.wifi.hidden else {})}
        wlan = {
            "dhcp4": True,
            "optional": True,
            "regulatory-domain": setup.wifi.country,
            "access-points": {setup.wifi.ssid: point},
        }
        wired = {"dhcp4": True, "optional": True}
        network = {"version": 2, "ethernets": {"eth0": wired}, "wifis": {"wlan0": wlan}}
        files["network-config"] = _json({"network": network})
    return files


def _file(path: str, permissions: str, content: bytes) -> dict[str, str]:
    """An entry of cloud-init's write_files."""
    text = base64.b64encode(content).decode()
    return {"path": path, "permissions": permissions, "encoding": "b64", "content": text}


def _json(value: Any) -> bytes:
    """JSON that is YAML too: YAML breaks lines at U+0085 and U+2028, refuses DEL, and knows no surrogate pairs."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    escaped = re.sub(r"[^\n\x20-\x7e\U00010000-\U0010ffff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return escaped.encode() + b"\n"


_FIRST_BOOT_UNIT = "edgesem-firstboot.service"
_FIRST_BOOT = """\
[Unit]
Description=edgesem: install what came with the card
ConditionPathExists={folder}/manifest.json
RequiresMountsFor={folder}
Before=edgesem-sender.service edgesem-receiver.service edgesem-engine.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 {folder}/agent.py take {folder}
ExecStartPost=/bin/systemctl disable edgesem-firstboot.service
TimeoutStartSec=1800

[Install]
WantedBy=multi-user.target
"""


def first_boot_unit(folder: str) -> bytes:
    """A unit that installs, once, the release that lies in `folder` of the board."""
    return _FIRST_BOOT.format(folder=folder).encode()


def firstrun(setup: Setup, boot: str) -> bytes:
    """The script that Raspberry Pi OS before cloud-init runs once, by `systemd.run=` on its kernel's command line."""
    imager, user = "/usr/lib/raspberrypi-sys-mods/imager_custom", shlex.quote(setup.user.name)
    keys = "\n".join(setup.user.ssh_keys)
    lines = [
        "#!/bin/sh",
        "set +e",
        f"{imager} set_hostname {shlex.quote(setup.hostname)}",
        f"{imager} set_timezone {shlex.quote(setup.timezone)}",
        f"/usr/lib/userconf-pi/userconf {user} {shlex.quote(setup.user.password_hash or '!')}",
        f"{imager} enable_ssh -k {shlex.quote(keys)}" if keys else f"{imager} enable_ssh",
        f"echo {shlex.quote(setup.user.name + ' ALL=(ALL) NOPASSWD:ALL')} > /etc/sudoers.d/010_edgesem",
        "chmod 440 /etc/sudoers.d/010_edgesem",
    ]
    if setup.wifi.ssid:
        hidden = "-h " if setup.wifi.hidden else ""
        words = " ".join(map(shlex.quote, (setup.wifi.ssid, setup.wifi.password, setup.wifi.country)))
        lines.append(f"{imager} set_wlan {hidden}{words}")
    lines.append("mkdir -p -m 750 /etc/edgesem")
    for name, content in {**setup.etc, "": first_boot_unit(f"{boot}/edgesem")}.items():
        path = ETC + name if name else f"/etc/systemd/system/{_FIRST_BOOT_UNIT}"
        lines += [f"base64 -d > {path} <<'END'", base64.encodebytes(content).decode().strip(), "END"]
        lines += [f"chmod {640 if name else 644} {path}"]
    lines += [
        f"systemctl enable {_FIRST_BOOT_UNIT}",
        # In this order: a kernel that is told to run a script that is gone would never come to a login again.
        f"sed -i 's| systemd.run.*||g' {boot}/cmdline.txt",
        "sync",
        f"rm -f {boot}/firstrun.sh",
        "exit 0",
    ]
    return ("\n".join(lines) + "\n").encode()

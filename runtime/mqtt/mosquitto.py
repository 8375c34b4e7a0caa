"""Mosquitto, started with a configuration that lets nobody in without a password or a certificate."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from edgesem.errors import EnvironmentMissing, UsageError
from edgesem.packet.keys import write_private

_TOOL_S = 60.0
_PASSWORDS, _ACL = "passwords", "acl"
_PR_SET_PDEATHSIG = 1
_BECOME = f"""import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
except (AttributeError, OSError, TypeError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
# Debian puts the broker where only root's PATH looks.
_ALSO_LOOK_IN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/local/opt/mosquitto/sbin")


def find_tool(name: str) -> str | None:
    """The path of an installed program, also from the folders that only root has on PATH."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_ALSO_LOOK_IN))


@dataclass(frozen=True)
class Listening:
    """Where a broker listens, whom it lets in, and how much it may hold for those who are slow."""

    host: str
    port: int
    users: dict[str, str] = field(repr=False)
    """Passwords by name."""
    acl: str = ""
    """Mosquitto's ACL file: who may use which topics. Everybody may use all, if it is empty."""
    keep_in: Path | None = None
    """Folder of what must survive a restart: retained messages, sessions; nothing does if None."""
    autosave_s: int = 2
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    """Who must have signed a client's certificate. Its common name is then the user, and there are no passwords."""
    max_connections: int = 1000
    max_message_bytes: int = 512 * 1024
    max_inflight_messages: int = 200
    """That a client has not confirmed; mosquitto's own 20 are a few frames, too little for a receiver far away."""
    max_queued_bytes: int = 64 * 1024 * 1024
    """For each client that does not keep up."""
    figures_every_s: int = 10
    """How often it publishes figures of its own, below `$SYS`."""

    def lines(self, passwords: Path, acl: Path) -> list[str]:
        """The configuration; `passwords` has each user's password, hashed, and `acl` what `self.acl` says."""
        options: list[tuple[str, object]] = [
            ("listener", f"{self.port} {self.host}"),
            ("max_connections", self.max_connections),
        ]
        if self.cert_file is not None:
            options += [("certfile", self.cert_file), ("keyfile", self.key_file), ("tls_version", "tlsv1.2")]
        if self.client_ca_file is not None:
            options += [
                ("cafile", self.client_ca_file),
                ("require_certificate", "true"),
                ("use_identity_as_username", "true"),
            ]
        else:
            options.append(("password_file", passwords))
        if self.acl:
            options.append(("acl_file", acl))
        options += [
            ("allow_anonymous", "false"),
            # Or each layer, and each confirmation, would wait until the one before it is acknowledged: 40 ms and more.
            ("set_tcp_nodelay", "true"),
            ("message_size_limit", self.max_message_bytes),
            # The queue is bounded by its bytes. Mosquitto has had defects with 0, no limit, here.
            ("max_queued_messages", 100_000),
            ("max_inflight_messages", self.max_inflight_messages),
            ("max_queued_bytes", self.max_queued_bytes),
            ("sys_interval", self.figures_every_s),
            ("persistence", "false" if self.keep_in is None else "true"),
        ]
        if self.keep_in is not None:
            options += [("persistence_location", f"{self.keep_in}/"), ("autosave_interval", self.autosave_s)]
            options.append(("persistent_client_expiration", "7d"))
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append(("user", "root"))  # it would become `mosquitto`, who may not read our private folder
        options += [("log_dest", "stderr"), ("log_type", "error"), ("log_type", "warning")]
        lines = [f"{name} {value}" for name, value in options]
        for line in lines:
            if not line.isprintable():
                raise UsageError(f"{line!r}: a path or host for mosquitto must have printable characters only")
        return lines


def start_mosquitto(listening: Listening, home: Path, log: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """The process, just begun, with its files in the private folder `home`. EnvironmentMissing if there is none.

    On Linux it ends when the thread that has called this does, whatever ends it.
    """
    tool, server = find_tool("mosquitto_passwd"), find_tool("mosquitto")
    if tool is None or server is None:
        raise EnvironmentMissing("mosquitto or mosquitto_passwd is not installed: apt install mosquitto")
    _write_users(tool, listening, home)
    config = _config(home)
    config.unlink(missing_ok=True)
    write_private(config, "\n".join(listening.lines(home / _PASSWORDS, home / _ACL)) + "\n")
    # Python becomes mosquitto; where the system can, it is told to end with us, also if we are killed.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), server, "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def reload_users(process: subprocess.Popen[bytes], listening: Listening, home: Path) -> None:
    """Have a running mosquitto take up the users and the ACL of `listening`; all else stays as it was started."""
    tool = find_tool("mosquitto_passwd")
    if tool is None:
        raise EnvironmentMissing("mosquitto_passwd is not installed: apt install mosquitto")
    _write_users(tool, listening, home)
    process.send_signal(signal.SIGHUP)


def end_orphans(home: Path) -> bool:
    """End a mosquitto that was started with the files of `home`, and whose parent was killed; whether there was one.

    Only where the system shows command lines (/proc). For who holds the only lock on `home`.
    """
    wanted = [b"-c", os.fsencode(_config(home))]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[1:3] == wanted and path.stat().st_uid == os.geteuid():
                found.append(int(path.parent.name))
    for pid in found:
        _end_pid(pid)
    return bool(found)


def _end_pid(pid: int) -> None:
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            if _is_gone(pid):
                return
            time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _config(home: Path) -> Path:
    return home / "mosquitto.conf"


def _write_users(tool: str, listening: Listening, home: Path) -> None:
    """Write passwords and ACL anew; each file is replaced whole, as a mosquitto may read it at this moment."""
    made = home / "passwords.new"
    made.unlink(missing_ok=True)
    write_private(made, "".join(f"{name}:{password}\n" for name, password in listening.users.items()))
    # -U hashes the file in place: the password never stands on a command line, where every user could read it.
    try:
        if listening.users:  # it refuses an empty file
            subprocess.run([tool, "-U", str(made)], check=True, capture_output=True, timeout=_TOOL_S)
    except subprocess.SubprocessError as error:
        raise EnvironmentMissing(f"{tool} cannot hash a password ({error})") from error
    os.chmod(made, 0o600)
    made.replace(home / _PASSWORDS)
    if listening.acl:
        if not all(line.isprintable() for line in listening.acl.splitlines()):
            raise UsageError("a user's name must have printable characters only")
        made = home / "acl.new"
        made.unlink(missing_ok=True)
        write_private(made, listening.acl)
        made.replace(home / _ACL)


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a process end, the hard way if it does not want to."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""PostgreSQL on loopback, whose data are its own, and which can be killed and started again."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.edgesem_process import free_port
from tests.support.real_broker import wait_for_port


def _binaries():
    """The folder of Debian's newest PostgreSQL, or that of the path; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


FOLDER = _binaries()
needs_postgres = pytest.mark.skipif(FOLDER is None, reason="postgresql is not installed")
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
PASSWORD = "a secret of the catalogue"
_USER = "nobody"
"""It refuses to run as root."""


def unprivileged():
    """How a process is started as somebody who may do nothing."""
    if os.getuid():
        return {}
    who = pwd.getpwnam(_USER)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def folder_of_nobody():
    """A folder that is reached by, and belongs to, who runs what `unprivileged` starts."""
    with tempfile.TemporaryDirectory(prefix="edgesem-") as name:
        who = unprivileged()
        if who:
            os.chown(name, who["user"], who["group"])
        yield Path(name)


class Postgres:
    """A server with one user, `edgesem`, and the database of that name. `url` is without the password."""

    def __init__(self, folder, more=()):
        self.port, self._folder, self._more = free_port(), folder, more
        self.url = f"postgresql://edgesem@127.0.0.1:{self.port}/edgesem"
        self.env = {**os.environ, "PGPASSWORD": PASSWORD}
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = [FOLDER / "initdb", "-D", folder / "data", "-U", "edgesem", "--auth=scram-sha-256", "--no-sync"]
        subprocess.run([*made, f"--pwfile={secret}"], check=True, cwd="/", **_QUIET, **unprivileged())
        self.start()
        self.run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "edgesem", "edgesem")

    def start(self):
        options = [f"-p{self.port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={self._folder}"]
        self.process = subprocess.Popen(
            [FOLDER / "postgres", "-D", self._folder / "data", *options, *self._more],
            cwd="/",
            start_new_session=True,
            **_QUIET,
            **unprivileged(),
        )
        wait_for_port(self.port, self.process)
        self.run("pg_isready", "-h", "127.0.0.1", "-p", self.port, patience=600)

    def run(self, program, *args, patience=1):
        """Run one of its programs; `patience`: so many times, a tenth of a second apart, until it says yes."""
        for _ in range(patience - 1):
            if not subprocess.run([FOLDER / program, *map(str, args)], env=self.env, check=False, **_QUIET).returncode:
                return ""
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        done = subprocess.run([FOLDER / program, *map(str, args)], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill(self):
        """Kill it and all that it started, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


@contextlib.contextmanager
def running_postgres(*more):
    """A server that ends with the context."""
    with folder_of_nobody() as folder:
        server = Postgres(folder, more)
        try:
            yield server
        finally:
            server.end()

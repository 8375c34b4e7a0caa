"""A board to deploy to, on this machine: a real sshd on loopback, a folder as its root, a link that can be cut.

What is not real: systemd (its place is taken by a script that starts and stops real processes), and in the short tests
the program that is deployed, which is small enough to be installed twenty times.
"""

import base64
import compileall
import contextlib
import hashlib
import json
import os
import py_compile
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from devices.deployment.access import Access
from devices.deployment.deploy import Board

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

SYSTEMCTL = """\
#!{python}
import os, re, signal, subprocess, sys
root = {root!r}
verb, *units = [word for word in sys.argv[1:] if not word.startswith("--")]
run = os.path.join(root, "run/units")
os.makedirs(run, exist_ok=True)
os.makedirs(os.path.join(root, "run/edgesem"), exist_ok=True)
def alive(unit):
    try:
        pid = int(open(os.path.join(run, unit)).read())
        return pid if open(f"/proc/{{pid}}/stat").read().rsplit(")", 1)[1].split()[0] != "Z" else None
    except (OSError, ValueError):
        return None
for unit in units if verb in ("restart", "stop", "is-active") else []:
    if not unit.endswith(".service"):
        continue
    if verb == "is-active":
        print("active" if alive(unit) else "failed" if os.path.exists(os.path.join(run, unit)) else "inactive")
        continue
    if pid := alive(unit):
        os.killpg(pid, signal.SIGKILL)
    if verb == "restart":
        text = open(os.path.join(root, "etc/systemd/system", unit)).read()
        argv = re.search("^ExecStart=(.*)", text, re.M)[1].split()
        argv = [root + word if word.startswith(("/opt", "/etc")) else word for word in argv]
        log = open(os.path.join(root, "var/log/edgesem.log"), "ab")
        env = dict(os.environ, RUNTIME_DIRECTORY=os.path.join(root, "run/edgesem"))
        out = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        child = subprocess.Popen(argv, env=env, **out)
        open(os.path.join(run, unit), "w").write(str(child.pid))
"""

PROGRAM = """\
import hashlib, json, os, sys, time
def user():
    "As a sender whose configuration names the file with its login."
    etc = os.path.join(os.environ["RUNTIME_DIRECTORY"], "../../etc/edgesem")
    try:
        if "says_user" in open(os.path.join(etc, "send.toml")).read():
            return open(os.path.join(etc, "login")).read().partition(":")[0]
    except OSError:
        return None
def main():
    if sys.argv[1] == "info":
        try:
            folder = sys.argv[2]
            manifest = json.load(open(os.path.join(folder, "manifest.json")))
            for name, digest in manifest["files"].items():
                if hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest() != digest:
                    sys.exit(f"{{name}} is not what the manifest vouches for")
        except (OSError, ValueError, KeyError) as error:
            sys.exit(f"no bundle: {{error}}")
        return
    kind, count = {kind!r}, 0
    print("sending", {kind!r}, flush=True)
    if kind == "crashes":
        sys.exit(1)
    path = os.path.join(os.environ["RUNTIME_DIRECTORY"], "send.json")
    parent = os.getppid()
    while True:
        count += 1
        acknowledged = {{"good": 4 * count, "unheard": 0, "fades": min(count, 2), "dies": count}}[kind]
        with open(path + ".part", "w") as file:
            json.dump({{"pid": os.getpid(), "frames": count, "acknowledged": acknowledged, "user": user()}}, file)
        os.replace(path + ".part", path)
        if kind == "dies" and count == 2:
            sys.exit(1)
        time.sleep(0.05)
"""


def wheel(folder: Path, kind: str = "good", requires: str = "", version: str = "0.0.1", padding: int = 0) -> Path:
    """A wheel named edgesem, whose sender behaves as `kind` says."""
    info = f"edgesem-{version}.dist-info"
    files = {
        "edgesem_stand.py": PROGRAM.format(kind=kind),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edgesem\nVersion: {version}\n"
        + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedgesem = edgesem_stand:main\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text.encode())}\n"
        for name, text in files.items()
    )
    record += "edgesem_padding.bin,,\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"edgesem-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
        archive.writestr(zipfile.ZipInfo("edgesem_padding.bin"), os.urandom(padding))
    return path


def pip_wheel() -> Path:
    """The wheel of pip that Python itself brings, with its modules compiled: that takes longer than an installation."""
    import ensurepip

    found = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not found:
        pytest.skip("this Python brings no wheel of pip")
    made = Path(tempfile.gettempdir()) / f"edgesem-tests-{os.getuid()}-{sys.implementation.cache_tag}" / found[0].name
    made.parent.mkdir(exist_ok=True)
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
            shutil.unpack_archive(found[0], f"{scratch}/pip", "zip")
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            compileall.compile_dir(f"{scratch}/pip", quiet=2, legacy=True, invalidation_mode=unchecked)
            os.replace(shutil.make_archive(f"{scratch}/pip", "zip", f"{scratch}/pip"), made)
    return made


def bundle(folder: Path) -> Path:
    """A bundle whose manifest fits its one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.onnx").write_bytes(b"weights" * 1000)
    digest = hashlib.sha256((folder / "encoder.onnx").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"files": {"encoder.onnx": digest}}))
    return folder


class Cable:
    """A TCP relay to the board that can be cut, at once or after so many bytes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends: list[socket.socket] = []
        self.left: int | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for source, sink, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=(source, sink, counted), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted and self.left is not None:
                    with self._lock:
                        data, self.left = data[: self.left], max(0, self.left - len(data))
                    sink.sendall(data)
                    if self.left == 0:
                        self.cut()
                        return
                else:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self.cut()
        self._server.close()


class Stand:
    """A board: `root` is its file system, `cable.port` its SSH.

    With `at`, who comes in over SSH finds that file system there, in a mount namespace of this board's own: so several
    boards have the same paths, as separate machines have. That needs root.
    """

    def __init__(self, folder: Path, at: Path | None = None) -> None:
        if SSHD is None or shutil.which("ssh") is None:
            pytest.skip("needs sshd and ssh: apt-get install openssh-server openssh-client")
        self.folder = folder
        self.root, self._at = folder / "root", at
        for name in ("usr/bin", "etc/edgesem", "var/log", "opt"):
            (self.root / name).mkdir(parents=True)
        systemctl = self.root / "usr/bin/systemctl"
        systemctl.write_text(SYSTEMCTL.format(python=sys.executable, root=str(at or self.root)))
        systemctl.chmod(0o755)
        (self.root / "etc/edgesem/send.toml").write_text('[source]\nuri = "nowhere"\n')
        (self.root / "var/log/edgesem.log").touch()
        self._start_sshd()
        self.small = at is None and self._on_small_disk()
        self.cable = Cable(self._port)
        self.config = folder / "ssh_config"
        self.config.write_text(self.ssh_lines("*"))

    def remote(self, config: Path | None = None) -> Board:
        """How a deployment reaches this board, by its own ssh configuration or by another."""
        return Board("board", Access(config=config or self.config, root=str(self.root), python=sys.executable))

    def ssh_lines(self, host: str) -> str:
        """What an ssh configuration says of this board under the name of `host`."""
        return (
            f"Host {host}\n HostName 127.0.0.1\n Port {self.cable.port}\n IdentityFile {self.folder}/key\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {self.folder}/known\n StrictHostKeyChecking accept-new\n"
            " LogLevel ERROR\n HostKeyAlias board\n"
        )

    def _start_sshd(self) -> None:
        folder = self.folder
        for name in ("key", "host"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)]
            subprocess.run(argv, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it for its unprivileged half
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self._port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/key.pub\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        argv = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        if self._at is not None:
            inside = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", inside, "sh", str(self.root), str(self._at), *argv]
        with (folder / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(argv, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        until(lambda: _answers(self._port) or self._sshd.poll() is not None, 60)
        if self._sshd.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'sshd.log').read_text()}")

    def _on_small_disk(self) -> bool:
        """Put the board's /opt on a file system of 96 MB, where that is allowed."""
        if os.geteuid() or shutil.which("mount") is None:
            return False
        argv = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(self.root / "opt")]
        return subprocess.run(argv, capture_output=True).returncode == 0

    def fill(self) -> None:
        """Leave no byte free on the board's disk."""
        with (self.root / "opt/filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))

    def mend(self) -> None:
        """The cable as it was, and room on the disk."""
        self.cable.left = None
        (self.root / "opt/filler").unlink(missing_ok=True)

    @property
    def running(self) -> str | None:
        link = self.root / "opt/edgesem/current"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else None

    @property
    def releases(self) -> dict[str, bool]:
        """Folder -> whether it counts as installed."""
        folders = (self.root / "opt/edgesem/releases").glob("*")
        return {path.name: (path / "release.json").exists() for path in folders}

    @property
    def on_probation(self) -> bool:
        return (self.root / "opt/edgesem/pending.json").exists()

    def sends(self) -> bool:
        """Whether a sender of the release that `current` names is alive, and more and more is acknowledged."""
        folder = f"/releases/{self.running}/".encode()
        counts: dict[int, int] = {}

        def grows() -> bool:
            status = self.status()
            pid, count = status.get("pid", 0), status.get("acknowledged", 0)
            with contextlib.suppress(OSError):
                return folder in Path(f"/proc/{pid}/cmdline").read_bytes() and count > counts.setdefault(pid, count)
            return False

        with contextlib.suppress(AssertionError):
            until(grows, 60)
            return True
        return False

    def status(self) -> dict:
        try:
            return json.loads((self.root / "run/edgesem/send.json").read_text())
        except (OSError, ValueError):
            return {}

    def close(self) -> None:
        for path in (self.root / "run/units").glob("*.service"):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
        self.cable.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._sshd.pid, signal.SIGTERM)
        self._sshd.wait()
        if self.small:
            subprocess.run(["umount", "--lazy", str(self.root / "opt")], check=False)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(true, seconds: float) -> None:
    """Return as soon as `true()` is; AssertionError if it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)

"""Sandbox of a systemd unit, set up without systemd.

`python -m tests.support.unit_sandbox [--board HOME] UNIT -- COMMAND` applies to itself what the unit file says of
system calls, address families, privileges, user, folders and write paths, and becomes the command. The system calls are
those that `systemd-analyze syscall-filter` lists. User, folders and write paths need root and mounts of our own: with
`--board`, the folders etc, run and var of HOME stand in place of this machine's. `make_board` says whether that can be.
"""

import contextlib
import ctypes
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_ROOT = Path(__file__).parents[2]
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_RECURSIVE, _RDONLY = 442, 0x8000, 1
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_SCMP_ACT_ALLOW, _SCMP_CMP_EQ, _EPERM = 0x7FFF0000, 4, 1
_FOLDERS = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run", "CacheDirectory": "/var/cache"}


class Unit:
    """A unit file: each setting of `[Service]` with all its values, in order."""

    def __init__(self, path):
        self._values = {}
        section = ""
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self._values.setdefault(key, []).append(value)

    def all(self, key):
        """All values of a setting."""
        return self._values.get(key, [])

    def one(self, key):
        """The one value of a setting."""
        (value,) = self._values[key]
        return value

    def folders(self):
        """Those that systemd makes for it and that it may write."""
        return [f"{above}/{self.one(key)}" for key, above in _FOLDERS.items()]

    def environment(self):
        """What it sets."""
        return dict(pair.split("=", 1) for value in self.all("Environment") for pair in shlex.split(value))

    def system_calls(self):
        """The names of the allowed ones."""
        allowed = set()
        for value in self.all("SystemCallFilter"):
            names = set().union(*(_expand(name) for name in value.removeprefix("~").split()))
            allowed = allowed - names if value.startswith("~") else allowed | names
        return allowed | _expand("@default")


@cache
def _expand(name):
    """The system calls of a set such as `@system-service`."""
    if not name.startswith("@"):
        return {name}
    lines = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    names = [line.split("#")[0].strip() for line in lines]
    return set().union(*(_expand(one) for one in names if one))


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class _ArgCmp(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def make_board(home):
    """Make `home` a board as a deployment leaves it, with the units' user; None, or why that cannot be here.

    What lies in `home/etc/edgesem` before is its configuration, which only root may read.
    """
    if os.geteuid():
        return "needs root"
    for name in ("run", "var/tmp", "var/lib", "var/cache"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "var/tmp").chmod(0o1777)
    shutil.copytree("/etc", home / "etc", symlinks=True, ignore=_special, dirs_exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-m", "tests.support.unit_sandbox", "--make", home],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    return made.stderr[-500:] if made.returncode else None


def _special(folder, names):
    paths = (Path(folder, name) for name in names)
    return [path.name for path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())]


def _make():
    """What a deployment does before it starts the units: the user, and who may read the secrets."""
    from devices.onboard.layout import Layout
    from devices.onboard.services import prepare_system

    prepare_system(Layout("/"))
    probe = [sys.executable, "-c", "import edgesem, runtime, onnxruntime"]
    subprocess.run(probe, check=True, user="edgesem", group="edgesem", extra_groups=[], cwd=_ROOT)


def _stand_in(home):
    """A mount namespace in which `home` is the machine, and every user can reach this Python and its packages."""
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    above = {path: os.open(home / path[1:], os.O_PATH) for path in ("/etc", "/run", "/var")}
    needed = {path: os.open(path, os.O_PATH) for path in {sys.base_prefix, sys.prefix, str(_ROOT)}}
    for closed in {closed for path in needed if (closed := _closed_above(path))}:
        _check(_LIBC.mount(b"none", os.fsencode(closed), b"tmpfs", 0, b"mode=755"))
    for path, place in (above | dict(sorted(needed.items()))).items():
        with contextlib.suppress(FileExistsError):
            os.makedirs(path)
        _check(_LIBC.mount(b"/proc/self/fd/%d" % place, os.fsencode(path), None, _MS_BIND | _MS_REC, None))
        os.close(place)


def _closed_above(path):
    """The outermost folder that not everybody may pass on the way to `path`."""
    return next((folder for folder in reversed(Path(path).parents) if not folder.stat().st_mode & 1), None)


def _protect_system(writable):
    """ProtectSystem=strict: everything is read-only but for the kernel's own and `writable`."""
    for path in writable:
        _check(_LIBC.mount(os.fsencode(path), os.fsencode(path), None, _MS_BIND, None))
    _set_read_only("/", True)
    for path in ("/proc", "/sys", "/dev", *writable):
        _set_read_only(path, False)


def _set_read_only(path, flag):
    attr = _MountAttr(_RDONLY if flag else 0, 0 if flag else _RDONLY, 0, 0)
    size = ctypes.sizeof(attr)
    _check(_LIBC.syscall(_MOUNT_SETATTR, -100, os.fsencode(path), _AT_RECURSIVE, ctypes.byref(attr), size))


def _drop_capabilities():
    if os.geteuid():
        return
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break


def _filter_system_calls(unit):
    """SystemCallFilter and RestrictAddressFamilies, by libseccomp."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x00050000 | _EPERM)))
    allow = ctypes.c_uint32(_SCMP_ACT_ALLOW)
    for name in sorted(unit.system_calls() - {"socket"}):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            _check(seccomp.seccomp_rule_add_array(context, allow, number, 0, None))
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in unit.one("RestrictAddressFamilies").split():
        equals = _ArgCmp(0, _SCMP_CMP_EQ, getattr(socket, family), 0)
        _check(seccomp.seccomp_rule_add_array(context, allow, number, 1, ctypes.byref(equals)))
    _check(seccomp.seccomp_load(context))


def _check(result):
    if result:
        number = ctypes.get_errno() or -result
        raise OSError(number, os.strerror(number))


def main():
    """Set the sandbox up and become the command."""
    if sys.argv[1] == "--make":
        _stand_in(Path(sys.argv[2]))
        _make()
        return
    end = sys.argv.index("--")
    unit, command = Unit(Path(sys.argv[end - 1])), sys.argv[end + 1 :]
    assert unit.one("NoNewPrivileges") == "yes"
    os.umask(0o022)
    if sys.argv[1] == "--board":
        _stand_in(Path(sys.argv[2]))
        user = pwd.getpwnam(unit.one("User"))
        for folder in unit.folders():
            os.makedirs(folder, exist_ok=True)
            os.chown(folder, user.pw_uid, user.pw_gid)
        _protect_system([*unit.folders(), "/var/tmp"])
        _drop_capabilities()
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(*[user.pw_gid] * 3)
        os.setresuid(*[user.pw_uid] * 3)
        os.chdir(unit.one("WorkingDirectory"))
    else:
        _drop_capabilities()
    os.umask(int(unit.one("UMask"), 8))
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _filter_system_calls(unit)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()

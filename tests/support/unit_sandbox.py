"""Sandbox of a systemd unit, set up without systemd.

`python -m tests.support.unit_sandbox UNIT WRITABLE... -- COMMAND` applies to itself what the unit file says of system
calls, address families, privileges and write paths, and becomes the command. The system calls are those that
`systemd-analyze syscall-filter` lists. Where this machine does not allow mounts, the whole file system stays writable;
`can_mount` says so.
"""

import ctypes
import os
import shlex
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_RECURSIVE, _RDONLY = 442, 0x8000, 1
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_SCMP_ACT_ALLOW, _SCMP_CMP_EQ, _EPERM = 0x7FFF0000, 4, 1
_NOBODY = 65534


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


def can_mount():
    """Whether a file system of our own can be made read-only here."""
    probe = "import tests.support.unit_sandbox as s; s.protect_system(['/tmp'])"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def protect_system(writable):
    """ProtectSystem=strict: everything is read-only but for the kernel's own and `writable`."""
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    for path in writable:
        _check(_LIBC.mount(os.fsencode(path), os.fsencode(path), None, _MS_BIND, None))
    _set_read_only("/", True)
    for path in ("/proc", "/sys", "/dev", *writable):
        _set_read_only(path, False)


def _set_read_only(path, flag):
    attr = _MountAttr(_RDONLY if flag else 0, 0 if flag else _RDONLY, 0, 0)
    size = ctypes.sizeof(attr)
    _check(_LIBC.syscall(_MOUNT_SETATTR, -100, os.fsencode(path), _AT_RECURSIVE, ctypes.byref(attr), size))


def _drop_privileges(writable):
    """User without privileges; where that one cannot read the program, ours without any capability."""
    if os.geteuid() != 0:
        return
    if _can_nobody_run_it():
        for path in writable:
            os.chown(path, _NOBODY, _NOBODY)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        return
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break


def _can_nobody_run_it():
    probe = [sys.executable, "-c", "import edgesem, runtime, tests.support"]
    try:
        ran = subprocess.run(probe, capture_output=True, check=False, user=_NOBODY, group=_NOBODY, extra_groups=[])
    except PermissionError:
        return False
    return ran.returncode == 0


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
    end = sys.argv.index("--")
    unit, writable, command = Unit(Path(sys.argv[1])), sys.argv[2:end], sys.argv[end + 1 :]
    assert unit.one("NoNewPrivileges") == "yes"
    os.umask(int(unit.one("UMask"), 8))
    if os.environ.pop("SANDBOX_MOUNTS", ""):
        protect_system(writable)
    _drop_privileges(writable)
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _filter_system_calls(unit)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()

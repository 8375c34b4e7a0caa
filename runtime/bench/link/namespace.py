"""Network namespaces and TUN devices: two isolated networks that only the link emulator connects.

A namespace lives as long as a process holds it, so nothing is left behind, however the bench ends. Needs Linux, root
(CAP_SYS_ADMIN and CAP_NET_ADMIN) and /dev/net/tun.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

from edgesem.errors import EnvironmentMissing

SENDER_IP, RECEIVER_IP = "10.77.0.1", "10.77.0.2"
MTU_BYTES = 1500
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFDSTADDR, _SIOCSIFMTU = 0x8916, 0x8918, 0x8922
_UP = 0x1


def missing() -> str:
    """Why network namespaces cannot be used here; an empty string if they can."""
    if not hasattr(os, "geteuid") or not Path("/proc/self/ns/net").exists():
        return "this is not Linux"
    if os.geteuid() != 0:
        return "this needs root"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is not there"
    child = os.fork()
    if child == 0:  # the only way to know is to try, and a process cannot return to the namespace it has left
        os._exit(0 if _call("unshare", _CLONE_NEWNET) == 0 else 1)
    _, status = os.waitpid(child, 0)
    return "" if status == 0 else "the kernel or the container forbids network namespaces"


def leave_network() -> int:
    """Move this thread into a new, empty network namespace; returns a file descriptor that keeps it alive."""
    if _call("unshare", _CLONE_NEWNET) != 0:
        raise EnvironmentMissing("no network namespaces here: run as root, outside of a container that forbids them")
    _bring_up(b"lo")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter_network(path: str) -> None:
    """Move this thread into the namespace at `path`, such as `/proc/PID/fd/N`."""
    with open(path, "rb") as file:
        if _call("setns", file.fileno(), _CLONE_NEWNET) != 0:
            raise EnvironmentMissing(f"cannot enter the network namespace {path}: its process has ended")


def open_tun(*, own_ip: str, peer_ip: str) -> int:
    """A TUN device in this thread's namespace, up, with these addresses; returns its non-blocking file descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"link0", _IFF_TUN | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request, address in ((_SIOCSIFADDR, own_ip), (_SIOCSIFDSTADDR, peer_ip)):
            where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(sock, request, struct.pack("16s16s8x", b"link0", where))
        fcntl.ioctl(sock, _SIOCSIFMTU, struct.pack("16si20x", b"link0", MTU_BYTES))
    _bring_up(b"link0")
    return tun


def _bring_up(name: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH22x", name, 0))
        flags = struct.unpack_from("H", asked, 16)[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _UP))


def _call(name: str, *args: int) -> int:
    return int(getattr(ctypes.CDLL(None, use_errno=True), name)(*args))

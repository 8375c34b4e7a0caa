"""Explanation of a failed SSH command: what was said, its likely cause and the next step, in one line."""

from __future__ import annotations

import re
import shlex

from devices.shell import CommandResult

_SSH_FAILED = 255
_CHANGED = re.compile(r"host key for ([\w.:\[\]-]+) has changed", re.IGNORECASE)
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"host key verification failed|no \S+ host key is known",
        "this machine does not know the board's host key yet: `{by_hand}` once, compare the fingerprint, answer yes",
    ),
    (
        r"permission denied",
        "the board does not accept this machine's key: name another with --identity, or bring yours there with "
        "ssh-copy-id, until `{by_hand}` asks for no password",
    ),
    (r"connection refused", "nobody listens there: check --port, and that sshd runs on the board"),
    (r"could not resolve", "no such host: check the name, and the DNS or the ssh configuration"),
    (r"no route to host|network is unreachable|timed out", "is the board on, and in this network?"),
)
_SUDO = r"sudo: .*(password|terminal)|not in the sudoers file|may not run sudo"
_NO_SUDO = r"sudo: (command )?not found"
_NO_ROOT = "the user may not become root there without a password: allow it in sudoers, or reach the board as root@"


def explained(done: CommandResult, by_hand: str) -> str:
    """Why an ssh command failed. `by_hand` is the command that connects to the board from a terminal."""
    why = done.reason if (done.err + done.out).strip() else "the connection was cut"
    cause = _cause(done.err.decode(errors="replace"), done.code, by_hand)
    return f"{why} (ssh ended with {done.code})" + (f"; {cause}" if cause else "")


def _cause(said: str, code: int, by_hand: str) -> str:
    """Likely cause and next step; "" for words that are not known. What the board's programs say is not looked at."""
    if code != _SSH_FAILED:
        if re.search(_NO_SUDO, said):
            return "the board has no sudo: install it there, or reach the board as root@"
        return _NO_ROOT if re.search(_SUDO, said) else ""
    if changed := _CHANGED.search(said):
        return (
            "the board shows another host key than this machine remembers: if it was set up anew, "
            f"`ssh-keygen -R {shlex.quote(changed[1])}`, then `{by_hand}` once; if not, somebody may stand between"
        )
    for pattern, cause in _CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return cause.format(by_hand=by_hand)
    return ""

"""Deployment of releases to boards over SSH: sent, installed, switched to, and kept only if the board proves healthy.

    facts -> wheels for that Python -> missing files sent -> installed aside -> switched, on probation -> confirmed

Whatever fails on the way, the board goes on with what it ran before; `devices.onboard` sees to that by itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any

from devices.deployment.access import Access, check_host
from devices.deployment.answer import BadAnswer, parse_answer
from devices.deployment.explain import explained
from devices.deployment.release import Release, agent_source, content_bytes
from devices.shell import Shell, printable
from edgesem.errors import EdgesemError, LinkError, UsageError

log = logging.getLogger(__name__)

_QUIET_S = 900.0  # an installation on the slowest board says nothing for minutes
_ANSWER_S = 300.0  # a loaded board takes as long to start the agent, stop its daemons, and go back
_MAX_LOG_LINE = 2000
_FACTS = ("arch", "python", "libc")


@dataclass
class Progress:
    """How far one board has come; `tell` is called at each step."""

    host: str
    step: str = "waiting"
    sent_bytes: int = 0
    to_send_bytes: int = 0
    seconds: float = 0.0
    ok: bool | None = None
    before: str | None = None
    running: str | None = None
    message: str = ""
    group: str = ""
    """Of the inventory, if the board was named by one, and so `device`."""
    device: str = ""


@dataclass
class Board:
    """One board behind ssh."""

    host: str
    access: Access
    shell: Shell = field(default_factory=Shell)

    def ask(
        self,
        step: str,
        *args: str,
        feed: Callable[[IO[bytes]], None] | None = None,
        heard: Callable[[str, IO[bytes]], None] = lambda *_: None,
        keep_open: bool = False,
        quiet_s: float = _QUIET_S,
    ) -> dict[str, Any]:
        """The agent's answer to one step.

        `feed` writes what the step reads; `heard` gets each word on the way, and with `keep_open` may answer it.

        Raises LinkError if the connection broke or the board refused; then nothing has changed there, or it has gone
        back by itself.
        """
        argv = self.access.agent(self.host, step, *args)
        answer: dict[str, Any] = {}
        wrong: list[BadAnswer] = []

        def say(stdin: IO[bytes]) -> None:
            stdin.write(agent_source())
            if feed is not None:
                feed(stdin)

        def hear(line: bytes, stdin: IO[bytes]) -> None:
            answer.clear()
            if wrong:  # what comes behind nonsense is not taken for an answer
                return
            try:
                answer.update(parse_answer(line))
            except BadAnswer as error:
                wrong.append(error)
                return
            if "step" in answer:
                heard(answer["step"], stdin)

        done = self.shell.talk(*argv, say=say, hear=hear, quiet_s=quiet_s, keep_open=keep_open)
        if wrong:
            trouble = str(wrong[0])
        elif "error" in answer:
            trouble = answer["error"]
        elif done.code or not answer or "step" in answer:
            trouble = explained(done, self.access.by_hand(self.host))
        elif lacking := [name for name in _FACTS if step == "facts" and name not in answer]:
            trouble = f"the board's answer lacks {', '.join(lacking)}: is this edgesem's agent?"
        else:
            return answer
        raise LinkError(f"{self.host}: {step}: {trouble}")


def deploy(
    board: Board,
    release_for: Callable[[dict[str, Any]], Release] | None,
    *,
    config: dict[str, bytes] | None = None,
    health_s: float = 90.0,
    tell: Callable[[Progress], None] = lambda _: None,
    only_missing: bool = False,
) -> Progress:
    """Bring one board to a release. What the board or the link does is never raised: the progress says how it ended.

    Without `release_for`, the board stays with the release that it has, and gets `config` alone. only_missing: a board
    that runs the release is left as it is, if there is no `config` for it.
    """
    progress, began = Progress(board.host), time.monotonic()

    def step(name: str) -> None:
        progress.step, progress.seconds = name, time.monotonic() - began
        tell(progress)

    try:
        step("asking")
        facts = board.ask("facts")
        progress.before = progress.running = facts.get("running")
        if release_for is None:
            version = progress.running or ""
            if not version:
                raise LinkError("no release runs there: deploy one first")
        else:
            step("building")
            release = release_for(facts)
            version = release.version
            if only_missing and not config and progress.running == version:
                progress.ok = True
                step("runs it already")
                return progress
            _install(board, release, facts, progress, step)
        configured: list[str] = []
        if config:
            step("configuring")
            files = _configuration(config)
            configured = ["--configured", hashlib.sha256(files).hexdigest()]
            board.ask("configure", feed=lambda stdin: _write(stdin, files))
        step("switching")

        def heard(word: str, stdin: IO[bytes]) -> None:
            step(word)
            if word == "healthy":
                _write(stdin, b"confirm\n")

        words = ("switch", version, "--health-s", str(health_s), *configured)
        answer = board.ask(*words, heard=heard, keep_open=True, quiet_s=health_s + _ANSWER_S)
        progress.running, progress.ok = str(answer.get("running")), True
        step("done")
    except Exception as error:  # whatever one board makes us stumble on, the others go on
        progress.ok, progress.message = False, failure(error, board.host)
        step(f"failed while {progress.step}")
    return progress


def _install(
    board: Board, release: Release, facts: dict[str, Any], progress: Progress, step: Callable[[str], None]
) -> None:
    """Send what the board lacks of a release, and install it aside."""
    wanted = board.ask("missing", feed=lambda stdin: _write(stdin, release.manifest)).get("missing", [])
    progress.to_send_bytes = sum(map(content_bytes, release.blobs(wanted).values()))
    if wanted:
        step("sending")

        def feed(stdin: IO[bytes]) -> None:
            release.write_tar(_Counted(stdin, progress, lambda: step("sending")), wanted)

        board.ask("receive", feed=feed, quiet_s=24 * 3600)
    if release.version not in facts.get("releases", []):
        step("installing")
        manifest = release.manifest
        board.ask(
            "install", feed=lambda stdin: _write(stdin, manifest), heard=lambda word, _: step(f"installing: {word}")
        )


def failure(error: Exception, host: str) -> str:
    """What went wrong with one host, as one line. An error that is not edgesem's own is logged with its traceback."""
    if isinstance(error, EdgesemError):
        return printable(str(error).removeprefix(f"{host}: "))
    log.error("%s: %s", host, type(error).__name__, exc_info=error)
    return printable(f"{type(error).__name__}: {error}")


def _configuration(files: dict[str, bytes]) -> bytes:
    return json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}).encode()


def _write(stdin: IO[bytes], data: bytes) -> None:
    stdin.write(data)
    stdin.flush()


class _Counted:
    """A stream that counts what goes through it, and says so at each megabyte."""

    def __init__(self, stream: IO[bytes], progress: Progress, tell: Callable[[], None]) -> None:
        self._stream, self._progress, self._tell = stream, progress, tell
        self._told = 0

    def write(self, data: bytes) -> int:
        self._progress.sent_bytes += len(data)
        if self._progress.sent_bytes >> 20 > self._told:
            self._told = self._progress.sent_bytes >> 20
            self._tell()
        return self._stream.write(data)


def rollback(board: Board, version: str = "", health_s: float = 90.0) -> dict[str, Any]:
    """Go back to the release before, or to the one named, if the board has it."""
    args = [version] if version else []
    return board.ask("rollback", *args, "--health-s", str(health_s), quiet_s=health_s + _ANSWER_S)


def logs(board: Board, lines: int) -> list[str]:
    """The last lines of the daemons' journal, without control characters, each cut where it is too long."""
    if board.access.root != "/":
        words: tuple[str, ...] = ("tail", "-n", str(lines), f"{board.access.root}/var/log/edgesem.log")
    else:
        words = ("journalctl", "--no-pager", "-o", "short-iso", "-n", str(lines), "-u", "edgesem-*")
        words = (*board.access.as_root(board.host), *words)
    argv = board.access.argv(board.host, *words)
    done = board.shell.run(*argv, read_only=True, check=False, error=LinkError, timeout_s=_QUIET_S)
    if done.code:
        raise LinkError(f"{board.host}: {explained(done, board.access.by_hand(board.host))}")
    return [printable(line, _MAX_LOG_LINE) for line in done.text.split("\n", lines)[:lines] if line]


def for_each(hosts: list[str], work: Callable[[str], Any], at_once: int = 8) -> list[Any]:
    """What `work` gives for each host, in their order, with so many of them under way at once."""
    for host in hosts:
        check_host(host)
    if len(set(hosts)) != len(hosts):
        raise UsageError("a host is named twice")
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return list(pool.map(work, hosts))

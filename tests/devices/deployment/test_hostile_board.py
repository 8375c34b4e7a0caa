"""Boards that are broken or hostile: what they say is data, and their failure is theirs alone."""

import json
import os
import sys
from pathlib import Path

import pytest

from devices.deployment.access import Access
from devices.deployment.answer import BadAnswer, parse_answer
from devices.deployment.deploy import Board as Remote
from devices.deployment.deploy import Progress, deploy
from devices.deployment.wheels import wheelhouse
from devices.shell import Shell, execute, printable
from edgesem.cli import main as cli
from edgesem.errors import UsageError

FACTS = {"arch": "x86_64", "python": "3.11", "libc": "glibc2.36", "model": "", "free_bytes": 10, "running": "1.0-a"}
STATUS = {**FACTS, "releases": [], "previous": None, "on_probation": None, "units": {}, "sender": {"frames": 3}}

SSH = """\
#!{python}
import json, sys
host = next(word for word in sys.argv[1:] if word.endswith("-board"))
kind = host.removesuffix("-board")
status = {status!r}
out = sys.stdout.buffer
out.write(b"")
def answer(**changed):
    out.write(json.dumps({{**status, **changed}}).encode() + b"\\n")
try:
    if "journalctl" in sys.argv[-1]:
        for _ in range(4 if kind != "endless" else 10**9):
            out.write(b"a line\\x1b]0;owned\\x07 \\x1b[2J [/red] \\xe2\\x80\\xae txt\\n")
    elif kind == "good":
        answer()
    elif kind == "markup":
        answer(running="[/bold]", previous="[red]x[/]", units={{"[/a]": "[/b]"}})
    elif kind == "escapes":
        sys.stderr.write("\\x1b[2Jwelcome\\x07\\n")
        answer(error="\\x1b]0;owned\\x07 no")
    elif kind == "types":
        answer(running=[1], releases={{"a": 1}}, sender=7, units=[["x"]])
    elif kind == "list":
        out.write(b"[1, 2]\\n")
    elif kind == "lacks":
        out.write(b"{{}}\\n")
    elif kind == "deep":
        out.write(b"[" * 200_000 + b"\\n")
    elif kind == "words":
        out.write(b"\\x00\\xff[/nonsense]\\n")
    elif kind == "wide":
        answer(releases=["x"] * 5000)
    elif kind == "long":
        out.write(b"x" * 3_000_000 + b"\\n")
    elif kind == "endless":
        while True:
            out.write(b'{{"step": "still at it"}}\\n' * 1000)
    elif kind == "loud":
        while True:
            sys.stderr.write("x" * 100_000)
            out.write(b'{{"step": "still at it"}}\\n' * 1000)
    elif kind == "after":
        out.write(b"nonsense\\n")
        answer()
    out.flush()
except BrokenPipeError:
    pass
"""
HOSTILE = ("escapes", "types", "list", "lacks", "deep", "words", "wide", "long", "endless", "loud", "after")
HOSTILE_SOON = tuple(kind for kind in HOSTILE if kind not in ("endless", "loud"))
"""Without those of which megabytes are read before they are given up."""


@pytest.fixture
def ssh(tmp_path, monkeypatch) -> None:
    """An `ssh` behind which boards of every kind answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(SSH.format(python=sys.executable, status=STATUS))
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_no_board_ends_the_command_for_the_others(ssh, capsys, json_):
    hostile = HOSTILE if json_ else HOSTILE_SOON
    hosts = ["good-board", "markup-board", *(f"{kind}-board" for kind in hostile)]
    assert cli.main(["device", "status", *hosts, *json_]) == 1
    shown = capsys.readouterr()
    assert "\x1b]" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err
    if not json_:
        assert "[/bold]" in shown.out  # as it is, neither obeyed nor an error
        return
    found = {entry["host"].removesuffix("-board"): entry for entry in json.loads(shown.out)["hosts"]}
    assert found["good"]["running"] == "1.0-a"
    assert found["markup"]["running"] == "[/bold]"
    assert {kind: entry["ok"] for kind, entry in found.items() if kind in HOSTILE} == dict.fromkeys(HOSTILE, False)
    assert all(0 < len(found[kind]["error"]) < 1000 for kind in HOSTILE)
    assert "running is [1]" in found["types"]["error"]
    assert "more than 8 MB" in found["endless"]["error"]


def test_a_deployment_to_a_board_that_answers_nonsense_fails_in_words(ssh):
    for kind in ("lacks", "types", "deep", "markup"):
        ended = deploy(Remote(f"{kind}-board", Access()), lambda facts: facts["no such thing"])
        assert isinstance(ended, Progress)
        assert (ended.ok, bool(ended.message)) == (False, True)


@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_a_dry_run_tells_what_each_board_is_and_what_is_wrong_with_the_others(ssh, capsys, json_):
    assert cli.main(["device", "deploy", "list-board", "types-board", "--dry-run", *json_]) == 1
    assert "unexpected words from the board" in " ".join(capsys.readouterr().out.split())


def test_log_lines_of_a_board_reach_the_terminal_without_its_escapes(ssh, capsys):
    assert cli.main(["device", "logs", "good-board", "--lines", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [r"a line\x1b]0;owned\x07 \x1b[2J [/red] \u202e txt"] * 2


def test_logs_without_end_are_that_board_s_failure(ssh, capsys, monkeypatch):
    monkeypatch.setattr("devices.shell.MAX_OUTPUT_BYTES", 1 << 20)
    assert cli.main(["device", "logs", "good-board", "endless-board", "--lines", "2", "--json"]) == 1
    good, endless = json.loads(capsys.readouterr().out)["hosts"]
    assert (good["ok"], len(good["lines"])) == (True, 2)
    assert (endless["ok"], "wrote more than 1 MB" in endless["error"]) == (False, True)


def test_what_a_board_says_of_its_c_library_leads_to_no_other_folder(tmp_path):
    cache = tmp_path / "cache"
    for glibc in ("2.36/../../../elsewhere", "2.999999999", "glibc2.36\n"):
        with pytest.raises(UsageError, match="C library"):
            wheelhouse(Shell(), cache, python="3.11", arch="x86_64", glibc=glibc, extra=[Path("edgesem-1-x.whl")])
    assert not list(tmp_path.iterdir())


def test_answers_are_bounded_and_of_the_types_that_are_promised():
    assert parse_answer(b'{"running": null, "more": {"a": ["\\u001b[2J"]}}')["more"] == {"a": ["\\x1b[2J"]}
    assert len(parse_answer(json.dumps({"model": "x" * 9000}).encode())["model"]) < 600
    for wrong in (b"", b"{", b"7", b'{"arch": "../x"}', b'{"python": "3.11; rm"}', b'{"missing": [7]}', b"[" * 99999):
        with pytest.raises(BadAnswer):
            parse_answer(wrong)


def test_a_command_that_writes_without_end_is_stopped():
    done = execute([sys.executable, "-c", "while True: print('x' * 10000)"], None, 60)
    assert done.code
    assert len(done.out) <= 64 << 20
    assert "wrote more than 64 MB" in done.reason


def test_text_from_outside_is_printed_with_its_controls_as_escapes():
    assert printable("a\x1b[31m\x9b\r\n\u2028\u202eb") == r"a\x1b[31m\x9b\x0d\x0a\u2028\u202eb"
    assert printable("é 漢 📷") == "é 漢 📷"
    assert printable("x" * 50, 10) == "xxxxxxxxxx ... (50 characters)"

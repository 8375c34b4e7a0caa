"""Every `edgesem ...` line in README and documentation names a command and options that exist."""

import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

from edgesem.cli.main import GROUP

ROOT = Path(__file__).parents[2]
OTHERS = ("training-log.md", "protocol.md", "bitstream.md")
PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name not in OTHERS]
COMMANDS = {tuple(entry.name.split(".")): entry for entry in entry_points(group=GROUP)}


def lines(page):
    """The shell lines of a page that run edgesem, and what stands in text as `edgesem ... --option`."""
    text = page.read_text("utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    yield from re.findall(r"(?:^|&& |sudo |; )(edgesem [^\n;]*)", blocks, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`(edgesem [a-z][^`]*)`", " ".join(prose.split()))


def options_of(entry):
    """The options of a command, by their names on the command line, and whether each takes a value."""
    app = typer.Typer(add_completion=False)
    app.command()(entry.load())
    return {flag: one.is_flag for one in typer.main.get_command(app).params for flag in one.opts if flag[0] == "-"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_that_are_written_exist(page):
    for line in lines(page):
        words = shlex.split(line.replace("...", ""), comments=True)[1:]
        if not words or not re.fullmatch(r"[a-z-]+", words[0]) or "_" in words[0]:
            continue
        name = tuple(words[:2]) if tuple(words[:2]) in COMMANDS else tuple(words[:1])
        if name not in COMMANDS:
            assert any(known[: len(name)] == name for known in COMMANDS), f"no such command: {line}"
            continue
        known = options_of(COMMANDS[name])
        for word in words[len(name) :]:
            if word.startswith("--") or re.fullmatch(r"\[?--.*", word):
                option = word.strip("[]").partition("=")[0]
                assert option in known or option == "--help", f"{option} in: {line}"

"""Plain arguments: what is read without Typer is what Typer reads, and a daemon needs no Typer."""

import inspect
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from edgesem.cli import lazy_typer
from edgesem.cli import main as cli
from edgesem.cli.lazy_typer import Exit, for_typer
from edgesem.cli.plain_arguments import plain_arguments

NAMES = {"send", "receive", "broker"}
DAEMONS = {entry.name: entry.load() for entry in entry_points(group=cli.GROUP) if entry.name in NAMES}
WORDS = [
    "5",
    "0.5",
    "-1",
    "1e3",
    "nan",
    "٣",
    "1_0",
    "",
    "-",
    "--",
    "-h",
    "a",
    "home/+/+",
    "~/x",
    "--json=1",
    "true",
    "00",
]
FOUND: dict = {}


def catching(command):
    """Typer's command with the same parameters; what it is given is in FOUND."""

    def run(**found):
        FOUND.clear()
        FOUND.update(found)

    run.__signature__ = inspect.signature(command, eval_str=True)
    app = typer.Typer(add_completion=False)
    app.command()(for_typer(run))
    return typer.main.get_command(app)


TYPER = {name: catching(command) for name, command in DAEMONS.items()}


def words_of(command):
    options = [
        flag for one in TYPER[command].params for flag in (*one.opts, *one.secondary_opts) if flag.startswith("--")
    ]
    return st.tuples(st.just(command), st.lists(st.sampled_from([*options, "--json", *WORDS]), max_size=6))


@given(st.sampled_from(sorted(DAEMONS)).flatmap(words_of))
@example(("send", ["photos", "--loop", "--fps", "5", "--port", "1883", "--watch", "a", "--watch", "b", "--json"]))
@example(("receive", ["home/+/+", "-", "--out", "received", "--http", "8480"]))
@example(("send", ["--fps", "1", "--fps", "2"]))
def test_what_is_read_here_is_what_typer_reads(case):
    command, words = case
    here = plain_arguments(DAEMONS[command], words)
    if here is not None:
        TYPER[command].main(words, standalone_mode=False)
        assert here == FOUND
        assert [type(value) for value in here.values()] == [type(FOUND[name]) for name in here]


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("send", "photos --loop --fps 5", {"source": "photos", "loop": True, "fps": 5.0}),
        ("send", "- --watch a --watch b", {"source": "-", "watch": ["a", "b"]}),
        ("receive", "a/+/+ b/+/+ --out here", {"streams": ["a/+/+", "b/+/+"], "out": Path("here")}),
        ("broker", "--port 1884 --json", {"port": 1884, "json_": True}),
        ("broker", "", {}),
    ],
)
def test_a_daemons_usual_arguments_are_plain(command, words, said):
    found = plain_arguments(DAEMONS[command], words.split())
    assert {name: value for name, value in found.items() if value} == said


@pytest.mark.parametrize(
    "words", ["--help", "--fps=5", "--fps x", "--fps", "--fps -1", "a b", "--wings 3", "--fps 1 --fps 2"]
)
def test_everything_else_is_left_to_typer(words):
    assert plain_arguments(DAEMONS["send"], words.split()) is None


def bounded(size: Annotated[int, lazy_typer.Option(min=2, max=4)] = 3) -> None:
    pass


def odd(size: Annotated[int, typer.Option()] = 3) -> None:
    pass


def test_bounds_hold_and_other_annotations_are_left_to_typer():
    assert plain_arguments(bounded, ["--size", "4"]) == {"size": 4}
    assert plain_arguments(bounded, ["--size", "5"]) is None
    assert plain_arguments(odd, ["--size", "3"]) is None


def leaving(size: Annotated[int, lazy_typer.Option()] = 3) -> None:
    raise Exit(size)


@pytest.mark.parametrize("words", [["--size", "4"], ["--size=4"]])
def test_an_exit_code_is_the_same_both_ways(words, monkeypatch):
    entry = type("Entry", (), {"name": "leave", "value": "", "extras": [], "load": lambda self: leaving})()
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])
    assert cli.main(["leave", *words]) == 4


@pytest.mark.parametrize(
    "words", ["send nowhere/at/all.jpg --json", "receive --shard x --json", "broker --kind x --json"]
)
def test_a_daemon_loads_no_typer(words, tmp_path):
    code = "import sys; from edgesem.cli.main import main; main(sys.argv[1:]); "
    code += "print(*{'typer', 'pydantic', 'amqtt', 'matplotlib'} & sys.modules.keys(), file=sys.stderr)"
    argv = [sys.executable, "-c", code, *words.split(), "--state-dir", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert '"error"' in done.stdout
    assert done.stderr.splitlines()[-1] == ""

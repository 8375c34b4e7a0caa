"""The command `edgesem`: what is listed, what is refused, and with which exit code."""

import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated

import pytest
import typer

from edgesem.cli import app
from edgesem.cli import main as cli
from edgesem.errors import BudgetError, EnvironmentMissing

COMMANDS = sorted(entry.name for entry in entry_points(group=cli.GROUP))


def offer(monkeypatch, **commands):
    """Let the command line find these commands only: name -> what an entry point would say."""
    found = [EntryPoint(name.replace("_", "."), value, cli.GROUP) for name, value in commands.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: found)


def good(json_: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Do something.

    Example: edgesem good --json
    """
    raise BudgetError("too small", smallest_bytes=300)


def unreadable(x: "NoSuchType") -> None:  # noqa: F821
    pass


def offline() -> None:
    raise EnvironmentMissing("no broker: start one")


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def interrupted() -> None:
    raise KeyboardInterrupt


def waiting(
    seconds: Annotated[float, typer.Option(min=0)] = 1.0, json_: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Wait.

    Example: edgesem waiting --seconds 2
    """


HERE = f"{__name__}:"


def test_the_version_is_the_distributions(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgesem 0.")
    assert cli.main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"].startswith("0.")


def test_python_m_edgesem_is_the_same_command():
    run = subprocess.run([sys.executable, "-m", "edgesem", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("edgesem 0.")


@pytest.mark.parametrize("args", [[], ["--help"], ["bench"], ["bench", "--help"]])
def test_help_lists_the_commands(args, capsys):
    assert cli.main(args) == (0 if "--help" in args else 2)
    listing = capsys.readouterr().out
    group = args[:1] == ["bench"]
    for name in COMMANDS:
        if name.partition(".")[0] == "bench" if group else "." not in name:
            assert name.rpartition(".")[2] in listing


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example(name, capsys):
    assert cli.main([*name.split("."), "--help"]) == 0
    assert f"Example: edgesem {name.replace('.', ' ')}" in capsys.readouterr().out


@pytest.mark.parametrize("entry", entry_points(group=cli.GROUP), ids=lambda entry: entry.name)
def test_every_command_speaks_json(entry):
    assert "json_" in inspect.signature(entry.load()).parameters


@pytest.mark.parametrize("args", [["fly"], ["info"], ["--wings"], ["info", "default", "--wings"], ["--json"]])
def test_wrong_usage_is_one_line_and_exit_code_2(args, capsys):
    assert cli.main(args) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert cli.main([*args, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-nan"])
def test_numbers_that_are_none_are_refused_though_typer_finds_them_in_range(monkeypatch, capsys, value):
    offer(monkeypatch, waiting=HERE + "waiting")
    assert cli.main(["waiting", "--seconds", "2"]) == 0
    assert cli.main(["waiting", f"--seconds={value}"]) == 2
    assert "--seconds" in (said := capsys.readouterr().err)
    assert "not a finite number" in said


def test_json_before_the_command_says_where_it_belongs(capsys):
    assert cli.main(["--json", "info", "default"]) == 2
    assert "edgesem info ... --json" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_an_error_carries_its_figures_to_machines(monkeypatch, capsys):
    offer(monkeypatch, good=HERE + "good")
    assert cli.main(["good"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: too small\n")
    assert cli.main(["good", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"type": "BudgetError", "message": "too small", "exit_code": 1, "smallest_bytes": 300}


@pytest.mark.parametrize(("command", "code"), [("offline", 3), ("full_disk", 1), ("interrupted", 130)])
def test_troubles_outside_have_their_exit_codes(monkeypatch, capsys, command, code):
    offer(monkeypatch, run=HERE + command)
    assert cli.main(["run"]) == code
    assert "Traceback" not in capsys.readouterr().err


def words(text):
    """A text without line breaks and the frames of tables."""
    return " ".join(text.replace("│", " ").split())


def test_a_command_whose_extra_is_missing_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(app.MARKERS, "moon", ("no_such_module_at_all",))
    offer(monkeypatch, good=HERE + "good [moon]", fly="no_such_module_at_all:fly [moon]", moon_walk="nowhere:x [moon]")
    install = "needs: pip install '.[moon]' in a checkout of edgesem"
    assert cli.main(["--help"]) == 0
    listing = words(capsys.readouterr().out)
    assert listing.count(install) == 2
    assert f"Do something. edgesem good {install}" in listing
    for args in (["good"], ["good", "IN", "--bytes", "3"], ["fly"], ["moon", "walk", "far"]):
        assert cli.main(args) == 3
        name = " ".join(args[:2]) if args[0] == "moon" else args[0]
        assert capsys.readouterr().err == f"error: edgesem {name} {install}\n"
    assert cli.main(["good", "--help"]) == 0
    text = words(capsys.readouterr().out)
    assert install in text
    assert "Do something." in text
    assert "--json" in text  # its options
    assert "Example: edgesem good" in text


def cut_short() -> None:
    raise EOFError("No data left in file")


def test_an_input_that_ends_too_early_is_an_error_with_words(monkeypatch, capsys):
    offer(monkeypatch, run=HERE + "cut_short")
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err.strip() == "error: No data left in file"


def test_nothing_names_an_index_that_has_no_edgesem():
    root = Path(cli.__file__).parents[2]
    named = [
        f"{path.relative_to(root)}:{number}"
        for package in ("edgesem", "runtime", "export", "devices")
        for path in sorted((root / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"pip install\s+(-\S+\s+)*['\"]?edgesem\b", line)
    ]
    assert named == []


@pytest.mark.parametrize(
    "value",
    [
        "no_such_module_at_all:f",
        HERE + "no_such_function",
        "not an entry point",
        HERE + "COMMANDS",
        HERE + "unreadable",
    ],
)
def test_a_broken_command_does_not_take_the_others_with_it(monkeypatch, capsys, value):
    offer(monkeypatch, broken=value, good=HERE + "good")
    assert cli.main(["--help"]) == 0
    listing = capsys.readouterr().out
    assert "good" in listing
    assert "broken" in listing
    assert cli.main(["broken"]) == 3
    said = capsys.readouterr()
    assert "cannot be loaded" in said.err
    assert "Traceback" not in said.err
    assert cli.main(["good"]) == 1


def test_without_commands_it_says_to_install(monkeypatch, capsys):
    offer(monkeypatch)
    assert cli.main([]) == 3
    assert "pip install" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m edgesem --help | true"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert run.stderr == ""


@pytest.mark.parametrize("words", ["send nowhere/at/all.jpg", "receive --shard x", "broker --kind x"])
def test_a_daemon_loads_only_what_it_needs(words, tmp_path):
    code = "import sys; from edgesem.cli.main import main; main(sys.argv[1:]); "
    code += "print(*{'pydantic', 'amqtt', 'matplotlib'} & sys.modules.keys(), file=sys.stderr)"
    argv = [sys.executable, "-c", code, *words.split(), "--json", "--state-dir", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert '"error"' in done.stdout
    assert done.stderr.splitlines()[-1] == ""

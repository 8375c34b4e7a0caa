"""Text of users and boards is printed as it is: brackets in a name are no markup, neither obeyed nor an error (D5)."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

from devices.cli import display
from devices.deployment.deploy import Progress
from edgesem.cli import console
from export.cli import bundle_tables

ROOT = Path(__file__).parents[1]
PACKAGES = ("devices", "edgesem", "export", "runtime")
COMMANDS = sorted(path for package in PACKAGES for path in (ROOT / package / "cli").glob("*.py"))
ODD = "[/red] [bold]x[/] [link=http://a]\\"
PRINTING = {"print", "status", "add_row", "add_column", "add_task", "rule"}


def shown(renderable: object) -> str:
    out = Console(width=300, record=True, file=io.StringIO())
    out.print(renderable)
    return out.export_text()


def is_plain(argument: ast.expr) -> bool:
    """Whether what is printed cannot be text that rich reads markup in."""
    if isinstance(argument, ast.Constant):
        return not isinstance(argument.value, str) or "[" not in argument.value
    if isinstance(argument, ast.Call):
        name = argument.func
        made = name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""
        return made in ("Text", "_cell", "table", "pairs", "rows", "hosts", "plan", "Group", "render")
    if isinstance(argument, ast.IfExp):
        return is_plain(argument.body) and is_plain(argument.orelse)
    return isinstance(argument, (ast.Name, ast.Starred, ast.Subscript))  # made by what is looked at here as well


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_no_command_prints_a_text_that_may_hold_markup(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PRINTING):
            continue
        if any(key.arg == "markup" and not getattr(key.value, "value", True) for key in node.keywords):
            continue
        wrong = [ast.unparse(argument) for argument in node.args if not is_plain(argument)]
        assert not wrong, f"{path}:{node.lineno}: {wrong[0]}: print Text(...), or say markup=False"


@pytest.mark.parametrize(
    "made",
    [
        lambda: console.table((ODD, "size"), [(ODD, 1)], ODD),
        lambda: console.pairs({ODD: ODD}, ODD),
        lambda: display.rows([{"host": ODD, "units": {ODD: ODD}}], ("host", "units")),
        lambda: display.pairs({"name": ODD, "list": [ODD]}),
        lambda: display.plan({"out": ODD}, ODD),
        lambda: display.hosts([Progress(ODD, step=ODD, message=ODD)]),
        lambda: bundle_tables.verify_table({"bundle": ODD, "checks": {"format": {"ok": False, "error": ODD}}}),
        lambda: bundle_tables.quality_table({"bundle": ODD, "quality": {"pictures": ODD, "points": []}}),
        lambda: bundle_tables.engine_table(
            {"engines": [{"graph": ODD, "engine": ODD, "size_bytes": 1, "built": True}]}
        ),
    ],
)
def test_tables_show_any_name_as_it_is(made):
    assert "".join(ODD.split()) in "".join(shown(made()).split())  # a long title is folded


def test_a_live_table_and_a_bar_show_any_name_as_it_is(capsys, monkeypatch):
    written = Console(width=300, force_terminal=False, file=io.StringIO(), record=True)
    monkeypatch.setattr(console, "log", written)
    monkeypatch.setattr(display, "log", written)
    with display.LiveTable() as live:
        live.show(Progress(ODD, step="asking"))
    with console.progress(ODD) as bar:
        bar.update(0.5, what=ODD)
    assert ODD in written.export_text()

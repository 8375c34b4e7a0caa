"""The generated reference has every command, option, setting and public name; the site builds without a warning."""

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

import edgesem
import runtime
from edgesem.cli.main import GROUP

ROOT = Path(__file__).parents[2]


def generator():
    """The module docs/generate_reference.py."""
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_is_in_the_reference():
    page = generator().cli_page()
    for entry in entry_points(group=GROUP):
        section = page.partition(f"## edgesem {entry.name.replace('.', ' ')}\n")[2].partition("\n## ")[0]
        app = typer.Typer(add_completion=False)
        app.command()(entry.load())
        options = [flag for one in typer.main.get_command(app).params for flag in one.opts if flag.startswith("--")]
        assert [flag for flag in options if f"`{flag}`" not in section and flag != "--help"] == [], entry.name
        assert "```sh\nedgesem " in section, f"{entry.name} has no example"


def test_every_setting_is_in_the_reference_with_its_meaning():
    module = generator()
    page = module.configuration_page()
    for where, name in module.COMMANDS_WITH_FILE.values():
        kind = getattr(importlib.import_module(where), name)
        for section, rows in module.sections(kind):
            for key, type_, default, text in rows:
                assert f"| `{key}` | {type_} | {default} | {text} |" in page
                assert text, f"{section}.{key} has no docstring"
    assert dataclasses.is_dataclass(kind)


def test_every_public_name_is_in_the_reference():
    page = generator().api_page()
    for package in (edgesem, runtime):
        for name in package.__all__:
            assert re.search(rf"[.`]{name}\b", page), name


def test_the_site_builds_without_a_warning(tmp_path):
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed, reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("index.html", "reference/cli.html", "reference/configuration.html", "reference/api.html"):
        assert (tmp_path / "site" / page).stat().st_size > 10_000, page
    assert "budget_bytes" in (tmp_path / "site" / "reference" / "api.html").read_text("utf-8")

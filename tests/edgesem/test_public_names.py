"""The public names of edgesem: sorted, importable, and no more than that."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgesem
from edgesem import errors


def test_all_names_are_sorted_and_each_can_be_imported():
    assert edgesem.__all__ == sorted(set(edgesem.__all__))
    for name in edgesem.__all__:
        assert getattr(edgesem, name).__name__ == name if name not in ("Precision", "Runtime") else True
    assert set(edgesem.__all__) < set(dir(edgesem))


def test_the_names_that_type_checkers_see_are_the_same():
    tree = ast.parse(Path(edgesem.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == edgesem._HOMES


def test_every_error_is_public():
    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert found <= set(edgesem.__all__)


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        edgesem.nothing  # noqa: B018


def test_importing_edgesem_loads_nothing_heavy():
    code = "import sys, edgesem; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"numpy", "onnxruntime", "PIL", "typer", "rich", "nacl"} & set(found.stdout.split())

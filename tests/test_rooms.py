"""Who may import whom: the arrows between the four packages only ever point to edgesem."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgesem

ROOT = Path(__file__).parents[1]
PACKAGES = ("edgesem", "export", "runtime", "devices")
WORKSTATION_ONLY = {"torch", "onnx", "onnxscript", "optimum", "transformers", "accelerate", "safetensors"}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of all that is imported anywhere in a module, inside its functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:  # a relative import cannot leave its package
            names.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__", "require")):
            names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_to_edgesem_only(module):
    package = module.relative_to(ROOT).parts[0]
    allowed = {package, "edgesem"}
    names = imported(ast.parse(module.read_text(encoding="utf-8")))
    assert not names & set(PACKAGES) - allowed
    if package != "export":
        assert not names & WORKSTATION_ONLY


def test_the_walk_sees_every_way_to_import():
    code = "import export.training.codec\ndef f():\n    from runtime import x\n    import_module('devices.board')\n"
    assert imported(ast.parse(code)) == {"export", "runtime", "devices"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after running `code`."""
    probe = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_importing_edgesem_is_cheap():
    assert not loaded_after("import edgesem") & {"torch", "onnxruntime", "numpy", "PIL", "typer", "rich"}


def test_the_front_door_opens_without_heavy_modules():
    listing = "import io, sys; out, sys.stdout = sys.stdout, io.StringIO()\n"
    listing += "from edgesem.cli.main import main; main(['--help']); sys.stdout = out"
    assert not loaded_after(listing) & {"torch", "onnx", "onnxruntime", "numpy", "PIL", "matplotlib", "paho", "av"}


def test_no_model_run_leaves_a_trace_or_reports_home(tmp_path):
    # CI and the variable itself would hide what happens on a user's machine.
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    env |= {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    code = "import edgesem.bundle.runner, onnxruntime"
    subprocess.run([sys.executable, "-B", "-c", code], check=True, cwd=ROOT, env=env)
    assert list(tmp_path.rglob("*")) == []


def test_every_public_name_is_there_and_sorted():
    assert edgesem.__all__ == sorted(edgesem.__all__, key=lambda name: (name[0].islower(), name))
    for name in edgesem.__all__:
        assert getattr(edgesem, name) is not None
    assert set(edgesem.__all__) <= set(dir(edgesem))
    with pytest.raises(AttributeError, match="nothing_of_this"):
        _ = edgesem.nothing_of_this

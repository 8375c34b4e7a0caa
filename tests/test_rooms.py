"""Rooms: which folder of modules may import which, as the table rooms.toml says; and what imports cost."""

import ast
import os
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from edgesem.config import read_toml

ROOT = Path(__file__).parents[1]
PACKAGES = ("edgesem", "export", "runtime", "devices")
TABLE = {room: set(may) for package in read_toml(ROOT / "tests/rooms.toml").values() for room, may in package.items()}
COMMON = "edgesem.errors"  # everybody may import it
WORKSTATION_ONLY = {"torch", "onnx", "onnxscript", "optimum", "transformers", "accelerate", "safetensors"}
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path) for path in SOURCES}


@cache
def imported_by(path: Path) -> set[str]:
    """What `imported` finds in a file."""
    return imported(ast.parse(path.read_text(encoding="utf-8")))


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all that is imported anywhere in a module, inside its functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & MODULES if inner & MODULES else {node.module}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__", "require")):
            names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return names


def room_of(name: str) -> str:
    """The room of a module: its folder; a module that stands in a package itself is a room of its own."""
    parts = name.split(".")
    if name in MODULES and (ROOT.joinpath(*parts) / "__init__.py").exists():
        return name
    return ".".join(parts[:-1]) if len(parts) > 2 else name


@cache
def arrows() -> dict[str, dict[str, str]]:
    """Room -> room that it imports -> one of the imports."""
    found: dict[str, dict[str, str]] = {}
    for path in SOURCES:
        room = room_of(name_of(path))
        for name in imported_by(path):
            if name in MODULES and room_of(name) != room:
                found.setdefault(room, {})[room_of(name)] = f"{name_of(path)} imports {name}"
    return found


def test_the_table_lists_every_room_and_no_other():
    rooms = {room_of(name) for name in MODULES}
    holding_code = {room for room in rooms if room in TABLE or arrows().get(room) or not is_bare(room)}
    assert holding_code - set(TABLE) == set(), "new rooms: give them a line in tests/rooms.toml"
    assert set(TABLE) - rooms == set(), "these rooms are gone: delete their lines in tests/rooms.toml"


def is_bare(room: str) -> bool:
    """Whether a room is a package's folder that holds other rooms and nothing of its own."""
    return {name for name in MODULES if room_of(name) == room} == {room} and (ROOT.joinpath(*room.split("."))).is_dir()


def test_rooms_import_what_the_table_allows():
    wrong = [
        why
        for room, found in arrows().items()
        for other, why in found.items()
        if other not in {*TABLE.get(room, ()), COMMON}
    ]
    assert wrong == [], "arrows outside of tests/rooms.toml: import something else, or allow them there"


def test_no_import_runs_back_up():
    order = list(TABLE)
    wrong = [(room, other) for room, may in TABLE.items() for other in may if order.index(other) >= order.index(room)]
    assert wrong == [], "a room may import only rooms that stand above its line, so that there is no circle"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_packages_import_edgesem_and_never_each_other(path):
    package = path.relative_to(ROOT).parts[0]
    names = {name.partition(".")[0] for name in imported_by(path)}
    assert not names & set(PACKAGES) - {package, "edgesem"}
    if package != "export":
        assert not names & WORKSTATION_ONLY


def test_the_walk_sees_every_way_to_import():
    code = "import export.training.codec\ndef f():\n    from runtime import x\n    import_module('devices.board')\n"
    code += "from edgesem.codec import budget\nfrom edgesem.errors import InputError\n"
    found = {"export.training.codec", "runtime", "devices.board", "edgesem.codec.budget", "edgesem.errors"}
    assert imported(ast.parse(code)) == found
    assert {room_of(name) for name in found} == {
        "export.training",
        "runtime",
        "devices.board",
        "edgesem.codec",
        "edgesem.errors",
    }


def test_tests_stand_where_the_code_stands():
    wrong = []
    for path in TESTS:
        folders = path.relative_to(ROOT / "tests").parent
        if folders.parts[:1] and folders.parts[0] in PACKAGES and not (ROOT / folders).is_dir():
            wrong.append(str(path))
    assert wrong == []


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_no_test_imports_another_test(path):
    names = imported_by(path)
    assert [name for name in names if name.rpartition(".")[2].startswith(("test_", "conftest"))] == []
    if path.relative_to(ROOT / "tests").parts[0] == "edgesem":
        assert not {name.partition(".")[0] for name in names} & set(PACKAGES) - {"edgesem"}


def test_every_data_file_is_in_the_wheel():
    declared = read_toml(ROOT / "pyproject.toml")["tool"]["setuptools"]["package-data"]
    left_out, built = [], (".c", ".h", ".so")  # the kernel's source, and what is compiled of it
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            name = ".".join(path.parent.relative_to(ROOT).parts)
            if path.is_dir() or path.suffix in (".py", *built) or "__pycache__" in path.parts:
                continue
            if not any(fnmatch(path.name, pattern) for pattern in declared.get(name, ())):
                left_out.append(f"{name}/{path.name}")
    elsewhere = ("export.weights/", "devices.container")  # where training goes on from; what makes images
    assert [one for one in left_out if not one.startswith(elsewhere)] == []
    assert {package for package in PACKAGES if "py.typed" in declared[package]} == set(PACKAGES)


def loaded_after(code: str) -> set[str]:
    """Modules that a fresh Python has loaded after running `code`."""
    probe = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    return {part for name in run.stdout.split() for part in (name, name.partition(".")[0])}


def test_importing_edgesem_is_cheap():
    assert not loaded_after("import edgesem") & {"torch", "onnxruntime", "numpy", "PIL", "typer", "rich", "nacl"}


def test_the_command_line_starts_without_heavy_modules():
    listing = "import io, sys; out, sys.stdout = sys.stdout, io.StringIO()\n"
    listing += "from edgesem.cli.main import main; main(['--help']); sys.stdout = out"
    assert not loaded_after(listing) & {"torch", "onnx", "onnxruntime", "numpy", "PIL", "matplotlib", "paho", "av"}


@pytest.mark.parametrize("daemon", ["send", "receive", "broker"])
def test_daemons_load_nothing_that_only_a_workstation_needs(daemon):
    measuring = {"edgesem.quality", "edgesem.information", "edgesem.semantics.text_encoder", "edgesem.cli"}
    heavy = WORKSTATION_ONLY | {"typer", "rich", "matplotlib", "av"}
    assert not loaded_after(f"import runtime.daemon.{daemon}") & (measuring | heavy | {"export", "devices"})


def test_a_receiver_loads_what_it_is_asked_for():
    asked_for = {f"runtime.daemon.{name}" for name in ("homeassistant", "event_outputs", "receiver_metrics")}
    asked_for |= {f"runtime.receiver.{name}" for name in ("archive", "archive_viewer", "freshness_store", "event_clip")}
    asked_for |= {"runtime.catalogue.uploader", "runtime.web.server", "sqlite3", "fractions", "prometheus_client"}
    assert not loaded_after("import runtime.daemon.receive") & asked_for


def test_no_model_run_leaves_a_trace_or_reports_home(tmp_path):
    # CI and the variable itself would hide what happens on a user's machine.
    env = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    env |= {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    code = "import edgesem.bundle.runner, onnxruntime"
    subprocess.run([sys.executable, "-B", "-c", code], check=True, cwd=ROOT, env=env)
    assert list(tmp_path.rglob("*")) == []

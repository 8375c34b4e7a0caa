"""Wheels for another machine than this one, and releases made of them."""

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from devices.board import Board
from devices.deployment.release import Release, agent_source
from devices.deployment.wheels import overlooked, platform_tags, wheelhouse
from devices.shell import CommandResult, Shell
from edgesem.errors import BundleError, UsageError
from tests.support.board_stand import pip_wheel, wheel

ROOT = Path(__file__).parents[3]
PI = Board.load("raspberry-pi-5")


def other(folder, name, *requires):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = [f"Requires-Dist: {text}\n" for text in requires]
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\n{''.join(lines)}")
    return path


def test_what_only_the_boards_python_needs_is_not_forgotten(tmp_path):
    wheels = [
        other(tmp_path, "edgesem", "tomli>=2; python_version < '3.11'", "numpy", "colour; sys_platform == 'win32'"),
        other(tmp_path, "numpy", "extra-thing; extra == 'dev'"),
    ]
    assert overlooked(wheels, "3.10", "aarch64") == ["tomli>=2"]
    assert overlooked(wheels, "3.11", "aarch64") == []


def test_pip_is_asked_again_for_what_it_overlooked(tmp_path):
    asked = []

    def execute(argv, stdin, timeout_s):
        asked.append(argv)
        (target,) = [word.removeprefix("--dest=") for word in argv if word.startswith("--dest=")]
        assert Path(target).is_relative_to(tmp_path / "cache")  # so that what was loaded is moved whole or not at all
        Path(target).mkdir(exist_ok=True)
        other(Path(target), "pip")
        if any("tomli" in word for word in argv):
            other(Path(target), "tomli")
        other(Path(target), "edgesem", "tomli; python_version < '3.11'")
        return CommandResult(0)

    own = wheel(tmp_path / "own")
    ask = {"python": "3.10", "arch": "aarch64", "glibc": "2.35", "extra": [own]}
    found = wheelhouse(Shell(execute=execute), tmp_path / "cache", **ask)
    assert {path.name.split("-")[0] for path in found} == {"edgesem", "pip", "tomli"}
    assert len(asked) == 2
    assert "--python-version=3.10" in asked[0]
    assert "--platform=manylinux_2_35_aarch64" in asked[0]
    assert "--platform=manylinux_2_36_aarch64" not in asked[0]
    assert wheelhouse(Shell(execute=execute), tmp_path / "cache", **ask) == found  # from the cache
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["aarch64-3.10-2.35"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("python", "arch", "glibc", "complaint"),
    [
        ("3.9", "aarch64", "2.31", "needs 3.10"),
        ("3.14", "aarch64", "2.41", "needs 3.10"),
        ("3.11; rm", "aarch64", "2.36", "needs 3.10"),
        ("3.11", "armv7l", "2.36", "64-bit"),
        ("3.11", "aarch64", "", "C library"),
        ("3.11", "aarch64", "musl1.2", "C library"),
    ],
)
def test_a_board_without_wheels_is_told_so(python, arch, glibc, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        wheelhouse(Shell(), tmp_path, python=python, arch=arch, glibc=glibc, extra=[wheel(tmp_path)])


def test_no_wheel_is_taken_that_needs_a_newer_c_library():
    tags = platform_tags("aarch64", "glibc2.28")
    assert tags[0] == "manylinux_2_28_aarch64"
    assert "manylinux2014_aarch64" in tags


def test_a_release_is_named_by_its_content(tmp_path):
    def made(kind):
        return Release.make([wheel(tmp_path / kind, kind), pip_wheel()], None, PI)

    assert made("good").version == made("good").version
    assert made("good").version != made("unheard").version
    assert made("good").version.startswith("0.0.1-")


def test_a_release_needs_edgesem_and_pip(tmp_path):
    with pytest.raises(UsageError, match="one of edgesem and one of pip"):
        Release.make([wheel(tmp_path)], None, PI)


def test_a_damaged_bundle_does_not_leave_this_machine(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        Release.make([wheel(tmp_path), pip_wheel()], tmp_path / "b", PI)


def test_the_transfer_holds_what_was_asked_for_by_its_digest(tmp_path):
    release = Release.make([wheel(tmp_path), pip_wheel()], None, PI)
    some = sorted(release.blobs())[:3]
    stream = io.BytesIO()
    release.write_tar(stream, some)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        assert sorted(tar.getnames()) == some
        sizes = [member.size for member in tar]
    assert sizes == sorted(sizes)  # the smallest first: a cut link loses least


def test_the_agent_is_one_file_that_runs_without_edgesem(tmp_path):
    (tmp_path / "agent.py").write_bytes(agent_source())
    code = "import sys; sys.path=[p for p in sys.path if 'site-packages' not in p]; exec(open('agent.py').read())"
    argv = [sys.executable, "-I", "-S", "-c", code, "facts", "--root", str(tmp_path)]
    run = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert '"running": null' in run.stdout, run.stderr


def test_our_own_wheel_is_made_of_the_sources_of_now_and_leaves_nothing_in_the_checkout(tmp_path, monkeypatch):
    from devices.deployment import wheels

    checkout, packed = tmp_path / "checkout", []
    for name in ("edgesem/__init__.py", "edgesem/default_bundle/encoder.onnx", "build/lib/edgesem/long_gone.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    (checkout / "pyproject.toml").touch()
    before = sorted(checkout.rglob("*"))

    def execute(argv, stdin, timeout_s):
        source = Path(argv[-1])
        packed.extend(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
        (source / "build").mkdir()  # as pip would
        wheel(tmp_path)
        return CommandResult(0)

    monkeypatch.setattr(wheels, "_checkout", lambda dist: checkout)
    assert (
        wheels.own_wheel(Shell(execute=execute), tmp_path, platform.machine()).name == "edgesem-0.0.1-py3-none-any.whl"
    )
    assert sorted(packed) == ["edgesem/__init__.py", "edgesem/default_bundle/encoder.onnx", "pyproject.toml"]
    assert sorted(checkout.rglob("*")) == before


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A checkout with little more than the entropy coder."""
    from devices.deployment import wheels

    if not wheels._can_build():
        pytest.skip("there is no setuptools to build with")
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "edgesem/entropy", checkout / "edgesem/entropy")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "edgesem/__init__.py"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / "edgesem/entropy/libkernel.so").write_bytes(b"of this machine, built in place long ago")
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(wheels, "_checkout", lambda dist: checkout)
    return wheels


def kernels_in(wheel: Path) -> list[bytes]:
    """The compiled kernels in a wheel, which must have the Python that does without, and not the source in C."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "edgesem/entropy/kernel.py" in names
        assert not [name for name in names if name.endswith((".c", ".h"))]
        return [archive.read(name) for name in names if name.endswith(".so")]


@pytest.mark.parametrize(("arch", "machine"), [("x86_64", 62), ("aarch64", 183)])
def test_a_board_gets_the_kernel_of_its_own_kind_or_plain_python(tmp_path, sources, arch, machine):
    wheel = sources.own_wheel(Shell(), tmp_path / "own", arch)
    fits = {Tag("py3", "none", one) for one in (*platform_tags(arch, "2.36"), "any")}
    assert parse_wheel_filename(wheel.name)[3] <= fits
    if shutil.which("cc") if arch == platform.machine() else find_spec("ziglang"):
        (library,) = kernels_in(wheel)
        assert int.from_bytes(library[18:20], "little") == machine
        assert wheel.name.endswith(f"-py3-none-linux_{arch}.whl")
    else:
        assert kernels_in(wheel) == []
        assert wheel.name.endswith("-py3-none-any.whl")


def twice(sources, folder: Path) -> Path:
    """A wheel for this machine; the same sources must give the same one again."""
    (folder / "again").mkdir()
    wheel, again = (sources.own_wheel(Shell(), folder / name, platform.machine()) for name in ("own", "again"))
    assert wheel.read_bytes() == again.read_bytes()
    return wheel


def test_without_a_compiler_the_wheel_is_plain_python_and_fits_every_machine(tmp_path, sources, monkeypatch):
    monkeypatch.setenv("CC", "/bin/false")
    wheel = twice(sources, tmp_path)
    assert kernels_in(wheel) == []
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.long
def test_a_wheel_with_a_kernel_is_the_same_again(tmp_path, sources):
    twice(sources, tmp_path)

"""Wheelhouse: the wheels that a board needs, collected here for an installation there without a network."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import unquote, urlparse

from devices.shell import Shell
from edgesem.errors import EnvironmentMissing, InputError, UsageError
from edgesem.files import write_whole

log = logging.getLogger(__name__)

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
GLIBC_OF = {"3.10": "2.35", "3.11": "2.36", "3.12": "2.39", "3.13": "2.41"}
"""Python -> C library of the system that has it: Ubuntu 22.04, Debian 12, Ubuntu 24.04, Debian 13."""
_ARCHES = ("aarch64", "x86_64")
_ROUNDS = 8
_OLDEST_SETUPTOOLS = "77"  # as in pyproject.toml
_MAX_METADATA_BYTES = 1 << 20
_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "edgesem", "export", "runtime", "devices")


def wheelhouse(
    shell: Shell,
    folder: Path,
    *,
    python: str,
    arch: str,
    glibc: str,
    extra: Iterable[Path] = (),
) -> list[Path]:
    """All wheels for a board's Python, found in `folder` or downloaded to it, for an installation without a network.

    `python` is such as "3.11", `glibc` such as "2.36": no wheel is taken that needs a newer one. `extra` are wheels
    that come along as they are; one of them may be edgesem itself.
    """
    if not (
        re.fullmatch(r"3\.\d{1,3}", python) and OLDEST_PYTHON <= tuple(map(int, python.split("."))) <= NEWEST_PYTHON
    ):
        raise UsageError(
            f"the board has Python {python}, edgesem needs 3.10 to 3.13: choose a newer system, or name another "
            f"interpreter on the board with --python"
        )
    if arch not in _ARCHES:
        raise UsageError(f"there are no wheels of ONNX Runtime for {arch}: use a 64-bit system ({', '.join(_ARCHES)})")
    tags = platform_tags(arch, glibc)
    given = list(extra)
    ours = [path for path in given if path.name.startswith("edgesem-")]
    place = folder / f"{arch}-{python}-{glibc}"
    folder.mkdir(parents=True, exist_ok=True)
    # On the file system of the wheels, so that each is moved there whole or not at all.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
        wheel = ours[0] if ours else own_wheel(shell, Path(scratch), arch)
        key = hashlib.sha256(wheel.read_bytes()).hexdigest()[:12]
        ready = place / f"complete-{key}.json"
        if ready.exists():
            names = json.loads(ready.read_text())
            if all((place / name).is_file() for name in names):
                return [wheel_of(place, name) for name in names] + [path for path in given if path not in ours]
        place.mkdir(exist_ok=True)
        shutil.copyfile(wheel, Path(scratch) / "own")
        os.replace(Path(scratch) / "own", place / wheel.name)
        target = Path(scratch) / "download"
        links = [f"--find-links={path}" for path in {path.parent for path in given}]
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--dest={target}", *links]
        argv += [f"--python-version={python}", "--implementation=cp", f"--find-links={place}"]
        argv += [f"--platform={tag}" for tag in tags]
        wanted = [f"{place / wheel.name}[video]", "pip"]  # a board has a camera
        for _ in range(_ROUNDS):
            shell.run(*argv, *wanted, read_only=True, timeout_s=1800)
            if not (lacking := overlooked(target.glob("*.whl"), python, arch)):
                break
            wanted += lacking
        names = []
        for path in sorted(target.glob("*.whl")):
            os.replace(path, place / path.name)
            names.append(path.name)
        write_whole(ready, json.dumps(names).encode())
    return [wheel_of(place, name) for name in names] + [path for path in given if path not in ours]


def overlooked(wheels: Iterable[Path], python: str, arch: str) -> list[str]:
    """What the wheels require on the board, but not here: pip judges such conditions by the Python that it runs in."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename

    board = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": arch, "extra": ""}
    board |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    board |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    there, lacking = set(), {}
    for path in wheels:
        there.add(parse_wheel_filename(path.name)[0])
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
            with archive.open(name) as file:
                metadata = HeaderParser().parsestr(file.read(_MAX_METADATA_BYTES).decode("utf-8", "replace"))
        for text in metadata.get_all("Requires-Dist") or []:
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                raise InputError(f"{path.name} requires {text!r}, which cannot be read: {error}") from error
            if requirement.marker is None or requirement.marker.evaluate(board):
                lacking[canonicalize_name(requirement.name)] = f"{requirement.name}{requirement.specifier}"
    return [text for name, text in sorted(lacking.items()) if name not in there]


def wheel_of(folder: Path, name: str) -> Path:
    """The path of a wheel; InputError if the name would lead out of its folder."""
    if "/" in name or not name.endswith(".whl"):
        raise InputError(f"{folder} lists {name!r}, which is no wheel: delete the folder")
    return folder / name


def platform_tags(arch: str, glibc: str) -> list[str]:
    """What pip may take for a machine with this C library, the newest first."""
    match = re.fullmatch(r"(?:glibc)?2\.(\d{2})", glibc)
    if not match:
        raise UsageError(f"the board's C library is {glibc or 'unknown'}, wheels need glibc: use Debian or Ubuntu")
    tags = [f"manylinux_2_{minor}_{arch}" for minor in range(int(match[1]), 16, -1)]
    return [*tags, f"manylinux2014_{arch}", f"linux_{arch}"]


def own_wheel(shell: Shell, folder: Path, arch: str) -> Path:
    """A wheel of the edgesem that runs here: built from its checkout, or from the package index if it came from one.

    For a machine of another kind the kernel is compiled with the package ziglang, if that is installed. If not, the
    wheel is plain Python, and slower there.
    """
    source = _checkout(distribution("edgesem"))
    with tempfile.TemporaryDirectory(prefix="edgesem-source-") as scratch:
        if source is not None:
            _copy_sources(source, Path(scratch))
            compiler = _compiler(arch)
            what = ["wheel", *(["--no-build-isolation"] if _can_build() else [])]
            what += [f"--config-settings=--build-option=--plat-name=linux_{arch}"] if compiler else []
            what += [scratch]
        else:
            compiler = ""
            what = ["download", "--only-binary=:all:", f"--platform=manylinux_2_17_{arch}"]
            what += [f"edgesem=={version('edgesem')}"]
        flag = "--wheel-dir" if what[0] == "wheel" else "--dest"
        # A fixed date in the archive: the same code gives the same wheel, and so the same release.
        env = ["SOURCE_DATE_EPOCH=1577836800", *([f"CC={compiler}"] if compiler else [])]
        argv = ["env", *env, sys.executable, "-m", "pip", what[0], "--quiet", "--no-deps"]
        shell.run(*argv, flag, str(folder), *what[1:], read_only=True)
    found = sorted(folder.glob("edgesem-*.whl"))
    if not found:
        raise EnvironmentMissing("pip made no wheel of edgesem: give one with --wheel")
    return found[0]


def _compiler(arch: str) -> str:
    """The C compiler for a machine, as `CC` names it; none if it is that of this machine, `false` if there is none."""
    from importlib.util import find_spec

    if arch == platform.machine():
        return ""
    spec = find_spec("ziglang")
    if spec is not None and spec.submodule_search_locations:
        return f"{shlex.quote(str(Path(spec.submodule_search_locations[0]) / 'zig'))} cc -target {arch}-linux-gnu"
    log.warning("edgesem for %s goes without its compiled kernel, and codes more slowly: pip install ziglang", arch)
    return "false"


def _copy_sources(source: Path, target: Path) -> None:
    """What a wheel is made of, without the `build/` of a checkout: setuptools packs what lies there from long ago."""
    for name in _SOURCES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        elif (source / name).exists():
            shutil.copy2(source / name, target)


def _can_build() -> bool:
    """Whether the setuptools that is installed here will do: then nothing is downloaded for the build."""
    from packaging.version import Version

    try:
        return Version(version("setuptools")) >= Version(_OLDEST_SETUPTOOLS)
    except PackageNotFoundError:
        return False


def _checkout(dist: Distribution) -> Path | None:
    """The folder that edgesem runs from, or was installed from, if it is a checkout and still there."""
    beside = Path(__file__).parents[2]
    if (beside / "pyproject.toml").is_file():
        return beside
    text = dist.read_text("direct_url.json")
    url = urlparse(json.loads(text).get("url", "")) if text else None
    folder = Path(unquote(url.path)) if url is not None and url.scheme == "file" else None
    return folder if folder is not None and (folder / "pyproject.toml").is_file() else None

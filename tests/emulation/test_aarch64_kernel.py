"""The compiled kernel in the wheel for aarch64: the same bytes, symbols and errors as this machine's plain Python.

See test_aarch64.py for the root folder. CPUs are emulated; nothing here says how fast a board is.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devices.deployment.wheels import own_wheel
from devices.shell import Shell

HERE = Path(__file__).parent
ROOT = os.environ.get("EDGESEM_AARCH64")
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76")

pytestmark = [
    pytest.mark.skipif(not ROOT, reason="EDGESEM_AARCH64 names no root folder of arm64"),
    pytest.mark.skipif(not shutil.which("qemu-aarch64-static"), reason="qemu-user-static is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed: extra `wheels`"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The wheel's content in the root folder, beside the probe."""
    folder = Path(ROOT) / "edgesem-kernel"
    shutil.rmtree(folder, ignore_errors=True)
    wheel = own_wheel(Shell(), tmp_path_factory.mktemp("wheel"), "aarch64")
    assert wheel.name.endswith("-py3-none-linux_aarch64.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    shutil.copy(HERE / "aarch64_kernel_probe.py", folder)
    yield folder
    shutil.rmtree(folder)


def probe(*command: str | Path, **env: str) -> dict:
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("cpu", CPUS)
def test_the_wheels_kernel_runs_and_is_the_same_code(place, cpu):
    here = probe(
        sys.executable, HERE / "aarch64_kernel_probe.py", PYTHONPATH=str(HERE.parents[1]), EDGESEM_KERNEL="python"
    )
    program = ["/qemu-aarch64-static"] if (Path(ROOT) / "qemu-aarch64-static").exists() else []
    program += ["/usr/bin/python3", f"/{place.name}/aarch64_kernel_probe.py"]
    there = probe("/usr/sbin/chroot", ROOT, *program, PYTHONPATH=f"/{place.name}", QEMU_CPU=cpu, PATH="/usr/bin")
    assert (here.pop("machine"), here.pop("runtime")) == (os.uname().machine, "python")
    assert (there.pop("machine"), there.pop("runtime")) == ("aarch64", "compiled")
    assert here == there
    assert here["errors"] > 20

"""What is coded on x86 means the same on aarch64, and back: the real aarch64 wheels, under qemu's user-mode emulation.

$EDGESEM_AARCH64 names a Debian root folder of arm64 with numpy, onnxruntime and pillow installed
(docs/guides/export.md says how to make one). Emulation shows that symbols are the same; it says nothing about speed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgesem
from edgesem.packet.packet import Packet

HERE = Path(__file__).parent
ROOT = os.environ.get("EDGESEM_AARCH64")
# The emulated CPUs differ in their kernels: with and without dot products of bytes.
CPUS = ("cortex-a72", "cortex-a76")
TIMEOUT_S = 7200
PACKETS = int(os.environ.get("EDGESEM_AARCH64_PACKETS", "0"))

pytestmark = [
    pytest.mark.skipif(not ROOT, reason="EDGESEM_AARCH64 names no root folder of arm64"),
    pytest.mark.skipif(not shutil.which("qemu-aarch64-static"), reason="qemu-user-static is not installed"),
]


def load_probe():
    spec = importlib.util.spec_from_file_location("aarch64_probe", HERE / "aarch64_probe.py")
    module = importlib.util.module_from_spec(spec)
    argv, path = sys.argv, list(sys.path)
    sys.argv = ["probe", str(HERE)]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.argv, sys.path[:] = argv, path
    return module


def exchange(
    count: int, cpu: str, seed: int = 1, each: int = 1, largest: int = 190, made: int | None = None, refer: int = 0
) -> int:
    """Let both machines read each other's packets of `count` (`made`) pictures; how many packets that were.

    Each picture has `refer` packets more, which refer to the one before, where the bundle knows such.
    """
    probe = load_probe()
    codec = edgesem.load(precision="fp32")
    refer = refer if codec.has_reference else 0
    mine = probe.make(codec, count, 2 * seed - 1, each, largest, refer)
    shared = Path(ROOT) / "edgesem-exchange"
    shutil.rmtree(shared, ignore_errors=True)
    shutil.copytree(
        HERE.parents[1] / "edgesem", shared / "src" / "edgesem", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    shutil.copy(HERE / "aarch64_probe.py", shared)
    wanted = {"count": count if made is None else made, "seed": 2 * seed, "each": each, "largest": largest}
    wanted["refer"] = refer
    (shared / "in.json").write_text(json.dumps({"packets": [entry["packet"] for entry in mine], "make": wanted}))
    # /sys stays out: ONNX Runtime crashes when it finds it beside /proc of another architecture
    program = ["/qemu-aarch64-static"] if (Path(ROOT) / "qemu-aarch64-static").exists() else []
    program += ["/usr/bin/python3", "/edgesem-exchange/aarch64_probe.py", "/edgesem-exchange"]
    env = {"PATH": "/usr/bin:/bin", "QEMU_CPU": cpu, "OMP_NUM_THREADS": "1", "HOME": "/root"}
    subprocess.run(["/usr/sbin/chroot", ROOT, *program], check=True, env=env, timeout=TIMEOUT_S)
    answer = json.loads((shared / "out.json").read_text())
    shutil.rmtree(shared)
    assert answer["machine"] == "aarch64"
    assert answer["read"] == [entry["sha256"] for entry in mine]
    packets = [Packet.from_bytes(bytes.fromhex(entry["packet"])) for entry in answer["made"]]
    assert probe.read(codec, packets) == [entry["sha256"] for entry in answer["made"]]
    assert len(answer["made"]) == (each + refer) * wanted["count"]
    return len(mine) + len(answer["made"])


def test_a_few_packets_mean_the_same_on_both_architectures():
    assert exchange(2, "cortex-a76", each=2, largest=96, made=1) == 6


def test_packets_that_refer_mean_the_same_on_both_architectures():
    assert exchange(1, "cortex-a72", largest=96, refer=4) == 10


@pytest.mark.long
@pytest.mark.parametrize("cpu", CPUS)
def test_two_hundred_packets_that_refer_mean_the_same_on_both_architectures(cpu):
    assert exchange(10, cpu, seed=5, largest=120, refer=10) == 220


@pytest.mark.long
@pytest.mark.parametrize("cpu", CPUS)
def test_two_hundred_packets_of_all_sizes_mean_the_same_on_both_architectures(cpu):
    assert exchange(200, cpu) == 400


@pytest.mark.long
@pytest.mark.skipif(not PACKETS, reason="EDGESEM_AARCH64_PACKETS says no number of packets to exchange")
def test_as_many_packets_as_are_asked_for_mean_the_same_on_both_architectures(capfd):
    done = 0
    while done < PACKETS:
        turn = 10 + done // 2000
        done += exchange(40, CPUS[turn % 2], seed=turn, each=25, largest=97)
        with capfd.disabled():
            print(f"{done} packets, no difference", flush=True)

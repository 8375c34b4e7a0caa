"""Messages for the entropy coder, and its kernel, compiled from the source of now."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesem.entropy import kernel, rans
from edgesem.entropy.tables import SCALES, SMALLEST_WIDTH, WIDTH_RATIO, Tables

ROOT = Path(__file__).parents[2]
PASSES_OF_LAYER = (5, 2, 2, 2)


def logistic_tables() -> Tables:
    """Tables of the shape that training assumes; index 0 to 2 skip."""
    radii, frequencies = [], []
    for scale in range(SCALES):
        width = SMALLEST_WIDTH * WIDTH_RATIO**scale
        radius = 0 if scale < 3 else min(255, max(4, int(np.ceil(20 * width))))
        edges = np.arange(-radius, radius + 2) - 0.5
        mass = np.diff(1 / (1 + np.exp(-np.clip(edges / width, -500, 500))))
        slots = np.floor(mass / mass.sum() * (65536 - mass.size)).astype(int) + 1
        slots[radius] += 65536 - slots.sum()
        radii.append(radius)
        frequencies.append(slots)
    return Tables.of(np.array(radii), np.concatenate(frequencies))


TABLES = logistic_tables()


def message(seed: int, most: int, low: int, high: int, sparse=(1,)):
    """Scales and entries of a random message, drawn from the tables' own distributions."""
    random = np.random.default_rng(seed)
    scales, entries = [], []
    for passes in PASSES_OF_LAYER:
        sizes = random.integers(0, most + 1, passes) // random.choice([1, 1, 50])
        drawn = [random.integers(low, high + 1, size).astype(np.int32) for size in sizes]
        scales.append(drawn)
        entries.append(
            [TABLES.lookup[(s.astype(int) << 16) + random.integers(0, 65536, s.size)].astype(int) for s in drawn]
        )
    return scales, entries


def decode(chunks, total, scales):
    """The entries that chunks hold, given the scales of all symbols."""
    decoder = rans.Decoder(chunks, TABLES)
    read = [[decoder.read(s) for s in passes] for passes in scales[: len(chunks)]]
    if len(chunks) == total:
        decoder.finish()
    return read


def compile_kernel(target: Path, *flags: str) -> Path:
    """The library that this machine's C compiler makes of the kernel, without a warning; skips where there is none."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not shutil.which(compiler[0]):
        pytest.skip(f"there is no C compiler: {compiler[0]}")
    sources = sorted(Path(kernel.__file__).parent.glob("*.c"))
    strict = ["-std=c99", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run([*compiler, *strict, *flags, *sources, "-o", target], check=True)
    return target


def run_sanitized(code: str, folder: Path) -> str:
    """What a program prints that gets a kernel's path as its argument; the kernel is compiled in `folder`.

    The sanitizers for addresses and undefined behaviour watch, which see NumPy's arrays too.
    """
    try:
        path = compile_kernel(folder / "libkernel.so", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    except subprocess.CalledProcessError:
        pytest.skip("this C compiler has no sanitizers")
    needed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout.splitlines()
    runtime = next(line.split()[2] for line in needed if "libasan" in line)
    env = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, env=env)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout

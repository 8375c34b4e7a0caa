"""Digest of the program: every source counts, with its place, so that no figure of another program is taken for one."""

import shutil
from pathlib import Path

import pytest

from edgesem.sources import program_digest
from export.program import FIGURES, PACKAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda _, names: [
            name for name in names if name.endswith((".onnx", ".npz", ".safetensors", ".pt")) or name == "__pycache__"
        ])  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("folders", [PACKAGES, FIGURES])
def test_a_change_of_any_source_makes_another_program(copy, folders):
    before = program_digest.__wrapped__(folders, copy)
    assert before == program_digest(folders)
    for name in ("edgesem/quality/metrics.py", "export/bench/rd/baselines.py", "export/metrics/lpips.py"):
        (copy / name).write_text((copy / name).read_text() + "\n")
        after = program_digest.__wrapped__(folders, copy)
        assert after != before, name
        before = after


def test_code_that_moves_from_a_file_to_the_next_makes_another_program(copy):
    before = program_digest.__wrapped__(PACKAGES, copy)
    first, second = copy / "export/metrics/dists.py", copy / "export/metrics/lpips.py"
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join(lines[:-1]))
    second.write_text(lines[-1] + second.read_text())  # all sources put together are the same text
    assert program_digest.__wrapped__(PACKAGES, copy) != before


def test_what_a_bench_keeps_names_the_program(tmp_path):
    from export.bench.rd.codecs import BundleCodecs
    from export.bench.rd.measure import PictureMetrics

    assert program_digest(FIGURES)[:8] in BundleCodecs(None).version
    assert program_digest(FIGURES)[:8] in PictureMetrics().version

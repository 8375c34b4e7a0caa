"""Instruction counts: what is made of the marks that the emulator printed. Counting itself takes minutes of qemu."""

import importlib.util
from pathlib import Path

import pytest

from runtime.profile import counted

PATH = Path(__file__).parents[2] / "emulation" / "count_instructions.py"


@pytest.fixture(scope="module")
def counting():
    spec = importlib.util.spec_from_file_location("count_instructions", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marks(start, *frames):
    """What the plugin prints: a running count at five marks a frame, and some work between frames."""
    found, total = [], start
    for frame in frames:
        for number, work in enumerate((0, *frame)):
            total += work
            found.append((number, total))
        total += 777
    return found


def test_the_last_repeat_of_each_size_counts(counting):
    first, warm = (900, 50, 60, 70), (500, 40, 45, 65)
    large = (2000, 80, 90, 260)
    assert counting.differences(marks(10**9, first, warm, first, large)) == [
        dict(zip(counting.STAGES, warm, strict=True)),
        dict(zip(counting.STAGES, large, strict=True)),
    ]


def test_encoding_to_a_budget_is_counted_apart(counting):
    begin = counting.FIRST_TO_BUDGET
    found = marks(5, (1, 2, 3, 4), (1, 2, 3, 4))
    for start, ours, webp in ((1000, 90, 50), (2000, 70, 40), (3000, 95, 55), (4000, 75, 45)):
        found += [(begin, start), (begin + 1, start + ours), (begin + 2, start + ours + webp)]
    assert counting.to_budget(found) == [(70, 40), (75, 45)]
    assert len(counting.differences(found)) == 1


def test_the_module_that_is_written_says_what_was_counted(counting):
    small = {"encode": 10e6, "pack": 100e6 + 800 * 96 * 64, "unpack": 200e6 + 900 * 96 * 64, "step0": 4e6}
    large = {"encode": 40e6, "pack": 100e6 + 800 * 192 * 128, "unpack": 200e6 + 900 * 192 * 128, "step0": 16e6}
    macs = {"encode": 80e6, "step0": 64e6}
    text = counting.module([small, large], ["96x64", "192x128"], macs, "abc123", "cortex-a53")
    found: dict = {}
    exec(compile(text, "counted.py", "exec"), found)
    assert found["PER_FRAME"] == {"pack": (100e6, 800.0), "unpack": (200e6, 900.0)}
    assert found["PER_MAC"] == {"encode": 0.5, "step0": 0.25}
    assert (found["BUNDLE"], found["CPU"], found["QUALITY"]) == ("abc123", "cortex-a53", counted.QUALITY)
    assert set(found) >= {name for name in vars(counted) if name.isupper()}

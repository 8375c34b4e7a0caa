"""Console: results on stdout as JSON or table, nothing else there."""

import json

import numpy as np
import pytest
from rich.console import Console

from edgesem.cli.console import emit, pairs, progress, table


def drawn(what):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(what)
    return [line.split() for line in capture.get().splitlines() if line.strip()]


def test_a_table_shows_text_as_it_is_and_figures_to_the_right():
    view = table(["codec", "bytes"], [["[bold]x", 1200], [None, 0.123456789]], "sizes")
    assert drawn(view)[0] == ["sizes"]
    assert drawn(view)[-2:] == [["[bold]x", "1200"], ["0.123457"]]
    assert [column.justify for column in view.columns] == ["left", "right"]


def test_pairs_name_what_is_nested_by_its_path():
    nested = {"a": {"b": 1, "c": [2, 3]}, "rows": [{"x": "y"}], "gone": None}
    assert drawn(pairs(nested)) == [["a.b", "1"], ["a.c", "2", "3"], ["rows.0.x", "y"], ["gone", "none"]]


def test_json_holds_numbers_of_numpy_and_null_for_what_is_not_finite(capsys):
    emit({"a": np.float32(0.5), "b": float("inf"), "c": np.arange(2)}, True, pairs)
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": None, "c": [0, 1]}


@pytest.mark.parametrize("total", [3, 1.0, None])
def test_progress_leaves_stdout_alone(capsys, total):
    with progress("coding", total) as bar:
        bar.advance()
        bar.update(2, total=4, what="drawing")
    emit({}, True, pairs)
    out, err = capsys.readouterr()
    assert json.loads(out) == {}
    assert err == ""  # nothing is drawn where stderr is no terminal, not even an empty line

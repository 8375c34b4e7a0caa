"""JSON-lines store: records survive a killed run and other versions."""

from dataclasses import asdict, dataclass

import pytest

from edgesem.jsonl import JsonLines


@dataclass(frozen=True)
class Row:
    name: str
    value: float


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows.jsonl"


def opened(path):
    return JsonLines(path, key=lambda row: row.name, encode=asdict, decode=lambda values: Row(**values))


def test_records_are_found_again_by_key_and_the_later_counts(path):
    store = opened(path)
    store.add(Row("a", 1.0), Row("b", 2.0))
    store.add(Row("a", 3.0))
    for one in (store, opened(path)):
        assert one.get("a") == Row("a", 3.0)
        assert one.get("c") is None
        assert list(one) == [Row("b", 2.0), Row("a", 3.0)]
        assert len(one) == 2


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_last_line_cut_anywhere_costs_that_record_alone(path, cut):
    store = opened(path)
    store.add(Row("a", 1.0))
    whole = path.stat().st_size
    store.add(Row("é", 2.0))
    path.write_bytes(path.read_bytes()[: whole + cut])
    opened(path).add(Row("c", 3.0))
    assert opened(path).get("a") == Row("a", 1.0)
    assert opened(path).get("c") == Row("c", 3.0)
    assert len(opened(path)) in (2, 3)  # 3 where only the end of the line was missing


def test_lines_of_another_version_are_skipped(path):
    path.write_text('{"name": "a"}\n[]\n17\nno json\n\n{"name": "b", "value": 1.5}\n')
    assert list(opened(path)) == [Row("b", 1.5)]

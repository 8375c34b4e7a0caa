"""The bench of searches with a small catalogue, and what it refuses."""

import json

from edgesem.cli.main import main
from runtime.catalogue.database import PASSWORD_VARIABLE
from tests.support.postgres import PASSWORD, needs_postgres, running_postgres


@needs_postgres
def test_a_small_catalogue_is_filled_and_searched(monkeypatch, capsys):
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with running_postgres() as server:
        ask = ["bench", "search", "--catalogue", server.url, "--frames", "20000", "--rounds", "1", "--json"]
        assert main(ask) == 0
        told = json.loads(capsys.readouterr().out)
        assert {name: one["compared"] for name, one in told["ms"].items()} == {
            "all": 20_000,
            "a_fifth_of_the_time": 4000,
            "one_stream": 20,
            "in_memory": 20_000,
        }
        assert told["searches"] == 4
        assert 0 < told["cpu_ms"] < 10_000
        assert main(ask) == 1
        assert "fills an empty one" in capsys.readouterr().out

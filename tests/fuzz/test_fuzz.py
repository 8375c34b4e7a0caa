"""The fuzz harness in `tests/fuzz` runs: a breath of it by default, a minute in the long tests."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.protocol.ack import Ack
from runtime.protocol.command import KINDS, Command
from runtime.protocol.state import State
from tests.support.publishing import birth, identity, plain

HARNESS = Path(__file__).parent / "harness.py"
TARGETS = ("packet", "sealed", "messages", "receiver", "topic")

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: the extra `fuzz`")


def fuzz(target: str, folder: Path, *options: str) -> None:
    corpus, crashes = folder / f"{target}-corpus", folder / f"{target}-crashes"
    for made in (corpus, crashes):
        made.mkdir()
    for number, example in enumerate(examples()):
        (corpus / str(number)).write_bytes(example)
    limits = ["-rss_limit_mb=1024", "-timeout=10", f"-artifact_prefix={crashes}/"]
    run = subprocess.run(
        [sys.executable, str(HARNESS), target, *options, *limits, str(corpus)],
        capture_output=True,
        text=True,
        cwd=HARNESS.parents[2],
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert list(crashes.iterdir()) == []


def examples() -> list[bytes]:
    """One good message of each kind, for the fuzzer to spoil."""
    base = "edgesem/v1/a/b/c"
    who, born = identity(), birth(sealed=True)
    return [
        *(part.to_bytes() for part in plain(1).split()),
        plain(1, promised=True).to_bytes(),
        Ack(1, 2, 3, 4, 5, 1).to_bytes(),
        *(Command(kind, pause_s=3.0).to_bytes() for kind in KINDS),
        State(True, 1, 2, 3, 0.1, 5, 6, 7, 8, 9, 10, 0.2).to_bytes(),
        born.to_bytes(who, base=base),
        f"{base}/pkt/0".encode(),
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_no_parser_raises_anything_but_its_own_error(target, tmp_path):
    fuzz(target, tmp_path, "-runs=500", "-seed=1")


@pytest.mark.long
def test_sixty_seconds_of_fuzzing(tmp_path):
    for target in TARGETS:
        fuzz(target, tmp_path, f"-max_total_time={60 // len(TARGETS)}")

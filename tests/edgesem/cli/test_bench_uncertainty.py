"""`edgesem bench uncertainty`: the map and busyness beside it, and which of the two is nearer to the errors."""

import json

import numpy as np
import pytest
from PIL import Image

from edgesem.cli import main as cli


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures with a busy half and a plain one."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for number in range(2):
        frame = np.full((128, 128, 3), 90 + 40 * number, np.uint8)
        frame[:, 64:] = np.kron(rng.integers(0, 255, (32, 16, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def test_the_two_maps_are_compared_and_the_verdict_is_that_of_the_figures(pictures, capsys):
    command = ["bench", "uncertainty", "--data", str(pictures), "--bytes", "1500", "--samples", "2"]
    assert cli.main([*command, "--json"]) == 0
    mean = json.loads(capsys.readouterr().out)["mean"]
    assert all(-1 <= value <= 1 for value in mean.values())
    assert mean["gradient_blocks"] > 0.5
    assert cli.main(command) == 0
    nearer = "map is" if mean["spearman_blocks"] > mean["gradient_blocks"] else "gradient, which needs no samples, is"
    assert f"the {nearer} nearer to the errors" in capsys.readouterr().out

"""Pictures for the tests of the rate-distortion bench."""

import numpy as np
import pytest
from PIL import Image

from tests.support.rd import photo


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.roll(photo(), 20 * number, axis=1)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"

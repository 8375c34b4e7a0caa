"""HEIC as phones make it, where its optional plugin is installed."""

import numpy as np
import pytest
from PIL import Image

from edgesem.files import find_pictures, read_picture

pillow_heif = pytest.importorskip("pillow_heif")


def test_heic_is_read_as_it_is_shown(tmp_path):
    """Upright by what the file itself says: its EXIF orientation has been applied, and is not applied once more."""
    rows, columns = np.mgrid[:200, :320]
    photo = Image.fromarray(np.stack([rows, columns * 0.7, rows + columns * 0.1], -1).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    layered = photo.copy()
    layered.putalpha(128)
    pillow_heif.from_pillow(photo).save(tmp_path / "a.heic", quality=95)
    pillow_heif.from_pillow(photo).save(tmp_path / "b.heif", quality=95, exif=turned.tobytes())
    pillow_heif.from_pillow(layered).save(tmp_path / "c.HEIC", quality=95)
    paths = find_pictures(tmp_path)
    assert [path.name for path in paths] == ["a.heic", "b.heif", "c.HEIC"]
    plain, exif, over_white = (read_picture(path).astype(float) for path in paths)
    assert np.abs(plain - np.asarray(photo)).mean() < 4
    assert np.abs(exif - np.rot90(plain, -1)).mean() < 4
    assert np.abs(over_white - (np.asarray(photo) * 0.5 + 127.5)).mean() < 4

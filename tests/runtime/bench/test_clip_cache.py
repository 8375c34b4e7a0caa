"""Cache of encoded clips: it is for one bundle, these pictures and this code."""

import numpy as np

import edgesem
from runtime.bench.link import clip


def test_changed_code_or_pictures_have_another_place_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    codec, images = edgesem.load(), [np.zeros((64, 64, 3), np.uint8)]
    first = clip.cache_path(images, codec)
    assert clip.cache_path(images, codec) == first
    assert clip.cache_path([images[0] + 1], codec) != first
    monkeypatch.setattr(clip, "program_digest", lambda: "another")
    assert clip.cache_path(images, codec) != first

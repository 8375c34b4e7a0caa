"""Embeddings: packed in 64 bytes, compared with queries, named by labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgesem.errors import BundleError, PacketError, UsageError
from edgesem.semantics.embedding import (
    DIMENSIONS,
    EMBEDDING_BYTES,
    Labels,
    Query,
    best,
    from_bytes,
    similarity,
    to_bytes,
)
from tests.support.embeddings import labels, vector


@given(arrays(np.float32, DIMENSIONS, elements=st.floats(-10, 10, width=32)))
def test_an_embedding_keeps_its_direction_in_64_bytes(values):
    length = np.linalg.norm(values)
    if length < 1e-3:
        return
    data = to_bytes(values)
    assert len(data) == EMBEDDING_BYTES <= 64
    back = from_bytes(data)
    assert np.linalg.norm(back) == pytest.approx(1, abs=1e-5)
    assert similarity(values, back) > 0.7  # the worst there is: one number far above all others


def test_an_ordinary_embedding_loses_next_to_nothing():
    assert min(similarity(vector(i), from_bytes(to_bytes(vector(i)))) for i in range(50)) > 0.985


@given(st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_any_bytes_are_an_embedding_or_refused(data):
    try:
        assert np.isfinite(from_bytes(data)).all()
    except PacketError:
        return


def test_what_is_no_embedding_is_not_packed():
    with pytest.raises(UsageError, match="128"):
        to_bytes(np.full(DIMENSIONS, np.nan, np.float32))


@pytest.mark.parametrize(
    ("text", "index"),
    [("a car", 2), ("Cars", 2), ("the sports car", 1), ("sport car", 1), ("red car", 2), ("a pickup truck", 3)],
)
def test_a_text_finds_the_label_that_it_names(text, index):
    found = labels()
    assert similarity(found.label_query(text).vector, found.vectors[index]) == pytest.approx(1, abs=1e-6)


def test_what_no_label_names_is_refused_with_what_is_near():
    with pytest.raises(UsageError, match=r"near are.*tench"):
        labels().label_query("trench")
    with pytest.raises(UsageError, match="letters"):
        labels().label_query("  ")


def test_a_score_says_how_few_pictures_fit_better():
    found = labels()
    query = found.query_of("x", vector(7))
    assert query.score(vector(7)) > 0.99
    ranked = np.mean([query.score(one) for one in found.pictures])
    assert 0.4 < ranked < 0.6
    assert [query.score(one) for one in found.pictures[np.argsort(found.pictures @ query.vector)]] == sorted(
        query.score(one) for one in found.pictures
    )
    other = Query("y", vector(8), query.fits)
    assert best([other, query], vector(7))[0].text == "x"
    assert best([], vector(7)) == (None, 0.0)


def test_labels_survive_their_file_and_a_bad_file_is_refused(tmp_path):
    class Stand:
        folder, files = tmp_path, {"labels.npz": ""}

    with pytest.raises(BundleError, match="align"):
        Labels.of(type("Bare", (), {"folder": tmp_path, "files": {}})())
    np.savez_compressed(tmp_path / "labels.npz", **labels().to_arrays())
    back = Labels.of(Stand())
    assert back.names == labels().names
    assert similarity(back.vectors[3], labels().vectors[3]) > 0.999
    np.savez_compressed(tmp_path / "labels.npz", **{**labels().to_arrays(), "mean": np.zeros(3)})
    with pytest.raises(BundleError, match="fit together"):
        Labels.of(Stand())
    (tmp_path / "labels.npz").write_bytes(b"PK nothing")
    with pytest.raises(BundleError, match="labels"):
        Labels.of(Stand())

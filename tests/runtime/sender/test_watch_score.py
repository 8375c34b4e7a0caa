"""`--watch` with the bundle that ships: the score is a share of its own pictures, and what is looked for fires."""

from pathlib import Path

import pytest

import edgesem
import runtime
from edgesem.files import read_picture
from edgesem.semantics.embedding import Labels
from runtime.sender.semantic_trigger import SemanticTrigger

PHOTOS = Path(runtime.__file__).parent / "photos"


@pytest.fixture(scope="module")
def codec():
    with edgesem.load() as codec:
        yield codec


def looked(codec, photo, **settings):
    """What the trigger decides about the first frame of a camera that shows a photograph."""
    return SemanticTrigger(codec.bundle, **settings).look(codec.analyze(read_picture(PHOTOS / photo)), 0.0)


@pytest.mark.parametrize(("photo", "query"), [("10_burger.jpg", "a cheeseburger"), ("12_kitchen.jpg", "food")])
def test_what_is_looked_for_is_found_where_it_is(codec, photo, query):
    decision = looked(codec, photo, queries=[query])
    assert (decision.promise, decision.query) == (True, query)
    assert decision.score >= 0.8
    assert not looked(codec, photo, queries=[query], watch_score=0.999).promise


@pytest.mark.parametrize("photo", ["01_beetle.jpg", "04_lunch.jpg", "10_burger.jpg"])
def test_a_car_is_not_found_where_none_are(codec, photo):
    assert not looked(codec, photo, queries=["a car"]).promise


def test_the_score_of_each_query_is_a_share_of_the_same_pictures(codec):
    labels = Labels.of(codec.bundle)
    for text in ("a car", "a dog", "a boat", "food"):
        query = labels.label_query(text)
        scores = sorted(query.score(one) for one in labels.pictures)
        shares = [(place + 0.5) / len(scores) for place in range(len(scores))]
        assert max(abs(a - b) for a, b in zip(scores, shares, strict=True)) < 0.01, text

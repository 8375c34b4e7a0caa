"""What is the same on every machine and what is not is said where users and writers of other decoders read it."""

import inspect
from pathlib import Path

import pytest

from edgesem.codec.codec import Codec

DOCS = Path(__file__).parents[2] / "docs"


def plain(text):
    """A text in one line."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(inspect.getdoc(Codec.synthesize), id="docstring"),
        pytest.param((DOCS / "bitstream.md").read_text("utf-8").partition("## 12. Drawing")[2], id="specification"),
    ],
)
def test_symbols_are_the_same_and_pixels_may_differ_by_one_grey_level(text):
    text = plain(text).lower()
    assert "every machine decodes the same symbols" in text
    assert "may differ by one grey level in a few pixels between machines, runtimes and numbers of threads" in text
    assert "no integer decoder" in text


def test_the_concepts_say_so_too():
    text = plain((DOCS / "concepts.md").read_text("utf-8"))
    assert "two machines may differ by one grey level in a few pixels, never in a symbol" in text

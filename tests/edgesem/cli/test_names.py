"""Names of files are shown as they are, whatever stands in them: no markup, no picture signs, no control characters."""

import re

import numpy as np
import pytest
from PIL import Image

from edgesem.cli.console import visible
from edgesem.cli.main import main

NAMES = ["a[/b]", "[red]x[/red]", "[link=x]y", "a[b", ":smile:", "a\x1b[31mb", "a\x07b\rc"]


def flat(text):
    """What was printed, without the line breaks of a narrow terminal."""
    return re.sub(r"\s", "", text)


@pytest.fixture
def photo(tmp_path):
    def make(name):
        path = tmp_path / f"{name}.png"  # a slash makes a folder, whose name is shown too
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        return path

    return make


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_a_file_name_as_it_is(photo, tmp_path, capsys, name):
    source, packet, out = photo(name), tmp_path / f"{name}.es", tmp_path / f"{name}.jpg"
    shown = flat(visible(name))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / source.name).write_bytes(source.read_bytes())
    for args in (
        ["encode", source, packet, "--bytes", "900"],
        ["info", packet],
        ["decode", packet, out],
        ["info", out],
        ["bench", "uncertainty", "--data", folder, "--samples", "2"],
    ):
        assert main(list(map(str, args))) == 0
        said = capsys.readouterr()
        assert (flat(visible(source.name)) if args[0] == "bench" else shown) in flat(said.out), args
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said.out)
    for args in (["info", f"{name}.es"], ["encode", f"{name}.png", "x.es"], ["decode", f"{name}.es", "x.png"]):
        assert main(args) == 1
        said = capsys.readouterr()
        assert shown in flat(said.err), args
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said.err)


def test_what_cannot_be_printed_is_escaped():
    assert visible("a\x1b[2Jb\u202e\x7f\u2028") == "a\\x1b[2Jb\\u202e\\x7f\\u2028"
    assert visible("two\nlines\tof ä € 😀") == "two\nlines\tof ä € 😀"

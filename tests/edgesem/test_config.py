"""Settings from TOML and flags: what is wrong is named, with its place and what was probably meant."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.config import MAX_CONFIG_BYTES, load_config, setting
from edgesem.errors import InputError, UsageError


@dataclass(frozen=True)
class Pump:
    litres: float = setting(1.0, low=0, high=10)
    name: str = "main"
    valve: Path | None = None
    mode: str = setting("slow", one_of=("slow", "fast"))
    count: int = 1
    places: int = setting(1, low=0, high=10)
    on: bool = False
    rooms: tuple[str, ...] = ()

    def __post_init__(self):
        if self.on and not self.count:
            raise UsageError("pump.on needs pump.count")


@dataclass(frozen=True)
class Garden:
    title: str = ""
    pump: Pump = field(default_factory=Pump)


def load(tmp_path, text, **overrides):
    path = tmp_path / "garden.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, Garden, overrides)


def test_file_and_flags_become_one_typed_whole(tmp_path):
    text = 'title = "x"\n[pump]\nlitres = 2\nvalve = "/v"\nrooms = ["a", "b"]\n'
    garden = load(tmp_path, text, **{"pump.count": 3, "pump.litres": None})
    assert garden == Garden("x", Pump(2.0, valve=Path("/v"), count=3, rooms=("a", "b")))
    assert isinstance(garden.pump.litres, float)
    assert load_config(None, Garden) == Garden()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[pump]\nlitre = 1", r"garden\.toml: unknown key 'pump\.litre': did you mean pump\.litres\?"),
        ("[pumpe]\n", r"did you mean pump\?"),
        ("zzz = 1", r"known here are pump, title"),
        ("[pump]\nlitres = 11", r"pump\.litres is 11, must be 0 to 10"),
        ("[pump]\nlitres = nan", "must be a number"),
        ("[pump]\nlitres = '1'", "must be a number"),
        (f"[pump]\nlitres = {10**400}", "must be a number, not 1000"),  # more than a float can hold
        (f"[pump]\nplaces = {10**400}", r"pump\.places is 1000.*, must be 0 to 10"),
        ("[pump]\ncount = 1.5", "must be a whole number"),
        ("[pump]\ncount = true", "must be a whole number"),
        ("[pump]\non = 1", "must be true or false"),
        ("[pump]\nmode = 'medium'", "must be one of slow, fast"),
        ("[pump]\nrooms = 'a'", "must be a list"),
        ("[pump]\nvalve = ''", "must be a path"),
        ("pump = 1", r"must be a section \[pump\]"),
        ("[pump]\non = true\ncount = 0", "pump.on needs pump.count"),
        ("[pump", "is not TOML"),
        ("a = " + "[" * 50_000, "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        load(tmp_path, text)


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path):
    with pytest.raises(UsageError, match=r"command line: pump\.litres"):
        load(tmp_path, "", **{"pump.litres": 99.0})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load_config(tmp_path / "none.toml", Garden)
    with pytest.raises(UsageError, match="more than"):
        load(tmp_path, "#" * (MAX_CONFIG_BYTES + 1))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8 from its byte 1 on: save it as UTF-8"):
        load_config(tmp_path / "b.toml", Garden)


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[pump]\r\ncount = 2\r\n")
    assert load_config(tmp_path / "c.toml", Garden).pump.count == 2


@given(st.text(max_size=200))
def test_any_text_is_settings_or_an_error_of_ours(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(UsageError):
        assert isinstance(load_config(path, Garden), Garden)

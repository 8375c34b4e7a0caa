"""Inventory: what is read of it, what is refused, and that no file can do harm."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import EdgesemError, UsageError
from runtime.fleet.inventory import Inventory
from runtime.protocol.topics import Topics

GOOD = """
[devices."home/gate"]
groups = ["north", "doors"]
[devices."home/yard"]
streams = ["left", "right"]
groups = ["north"]
[receivers.hall]
[receivers.office]
streams = ["home/gate/+"]
"""


def read(tmp_path, text):
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return Inventory.read(path)


def test_devices_groups_and_accounts(tmp_path):
    fleet = read(tmp_path, GOOD)
    gate, left, right = (Topics("home", *names) for names in (("gate", "main"), ("yard", "left"), ("yard", "right")))
    assert fleet.streams == [gate, left, right]
    assert fleet.group("doors") == [gate]
    assert fleet.group("north") == [gate, left, right]
    assert [(one.name, one.role, one.streams) for one in fleet.accounts] == [
        ("home-gate", "device", ("home/gate/+",)),
        ("home-yard", "device", ("home/yard/+",)),
        ("hall", "receiver", ("+/+/+",)),
        ("office", "receiver", ("home/gate/+",)),
    ]
    with pytest.raises(UsageError, match="groups: doors, north"):
        fleet.group("south")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[device]", "did you mean devices"),
        ('[devices."home"]', "write SITE/DEVICE"),
        ('[devices."home/a/b"]', "write SITE/DEVICE"),
        ('[devices."home/+"]', "none of / [+]"),
        ('[devices."home/a"]\ngroup = []', "did you mean groups"),
        ('[devices."home/a"]\nstreams = []', "1 to 16"),
        ('[devices."home/a"]\nstreams = "main"', "list of texts"),
        ('[devices."home/a"]\nstreams = ["main", "main"]', "named twice"),
        ('[devices."home/a"]\ngroups = [1]', "list of texts"),
        ("devices = 1", "must be sections"),
        ('[devices]\n"home/a" = 1', "must be sections"),
        ('[receivers."a:b"]', "none of :"),
        ('[receivers.a]\nstreams = ["home"]', "SITE/DEVICE/STREAM"),
        ('[devices."home/a"]\n[receivers.home-a]', "two accounts"),
        ('[devices."a/b-c"]\n[devices."a-b/c"]', "two accounts"),
        ("x = [", "not TOML"),
    ],
)
def test_what_is_none_is_refused_with_its_place(tmp_path, text, words):
    with pytest.raises(UsageError, match=words) as raised:
        read(tmp_path, text)
    assert "fleet.toml" in str(raised.value)


@given(st.binary(max_size=200) | st.text(st.sampled_from('[]"=.\n,ab/devicsrg1+# ')).map(str.encode))
def test_no_file_does_harm(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    with contextlib.suppress(EdgesemError):
        Inventory.read(path)

"""Rollouts over groups of an inventory, on boards behind a real SSH: in order, stopped at a failure, and resumed."""

import json
import os
import signal

import pytest

from devices.deployment.deploy import Board as Remote
from devices.deployment.deploy import Progress, deploy
from devices.deployment.logins import Logins
from devices.deployment.rollout import NOT_BEGUN, Group, hold, read_groups, roll_out
from edgesem.cli import main as cli
from edgesem.errors import InputError, UsageError
from runtime.fleet.accounts import write_accounts
from runtime.fleet.inventory import Inventory
from tests.support.releases import HEALTH_S, release

INVENTORY = """
[devices."home/gate"]
host = "north"
groups = ["canary", "outside"]

[devices."home/yard"]
host = "south"
groups = ["outside"]

[devices."home/hall"]
host = "far"
"""


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "fleet.toml"
    path.write_text(INVENTORY)
    return path


def test_groups_come_in_the_order_given_and_each_board_once(inventory):
    assert read_groups(inventory, ["outside", "canary"]) == [
        Group("outside", {"north": "home/gate", "south": "home/yard"}),
        Group("canary", {}),
    ]
    assert read_groups(inventory, ["canary", "outside"])[1].devices == {"south": "home/yard"}
    assert list(read_groups(inventory, [])[0].devices) == ["north", "south", "far"]
    assert len(Inventory.read(inventory).devices) == 3  # the same file, for the other commands


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "devices must be sections"),
        ("devices = 3", "devices must be sections"),
        ("[devices]", "it has no device"),
        ('[devices."a/b"]', "has no host"),
        ('[devices."a/b"]\nhost = "-oProxyCommand=x"', "is no host"),
        ('[devices."a/b"]\nhost = "x"\n[devices."a/c"]\nhost = "x"', "have one host"),
    ],
)
def test_an_inventory_without_hosts_is_refused(tmp_path, text, words):
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_groups(tmp_path / "fleet.toml", [])


def test_wrong_groups_are_refused(tmp_path, inventory, capsys):
    with pytest.raises(UsageError, match="no device is in the group 'west'"):
        read_groups(inventory, ["west"])
    inventory.write_text('[devices."a/b"]\nhost = "x"\ngroups = "north"')
    with pytest.raises(UsageError, match="groups must be a list"):
        read_groups(inventory, ["north"])
    for words in (["--group", "north"], [], ["north", "--inventory", str(inventory)]):
        assert cli.main(["device", "deploy", *words]) == 2
    capsys.readouterr()


def test_no_board_is_begun_after_the_failures_that_are_allowed():
    groups = [Group("one", dict.fromkeys("abc", "s/d")), Group("two", dict.fromkeys("de", "s/d"))]

    def run(stop_after):
        ended = roll_out(groups, lambda host: Progress(host, ok=host not in "bd"), at_once=1, stop_after=stop_after)
        return "".join("-" if one.step == NOT_BEGUN else "+" if one.ok else "x" for one in ended)

    assert [run(1), run(2), run(3)] == ["+x---", "+x+x-", "+x+x+"]


@pytest.mark.long
def test_a_rollout_stops_at_the_first_board_that_goes_back_or_is_silent_and_goes_on(machines, inventory, tmp_path):
    boards, access = machines
    groups = read_groups(inventory, ["canary", "outside", ""])

    def roll(made, health_s=HEALTH_S):
        def bring(host):
            to = Remote(host, access)
            ended = deploy(to, lambda facts: made, health_s=health_s, only_missing=True)
            if ended.ok:
                hold(to, ended, 0.5)
            return ended

        return {one.host: one for one in roll_out(groups, bring, at_once=1)}

    def steps(ended):
        return {host: "ok" if one.ok else one.step for host, one in ended.items()}

    first = roll(release(tmp_path / "1", version="0.0.1"))
    assert steps(first) == dict.fromkeys(boards, "ok"), [one.message for one in first.values()]
    assert [(one.group, one.device) for one in first.values()] == [
        ("canary", "home/gate"),
        ("outside", "home/yard"),
        ("all", "home/hall"),
    ]

    bad = roll(release(tmp_path / "bad", "fades"), health_s=1.5)
    assert steps(bad) == {"north": "failed while switched", "south": NOT_BEGUN, "far": NOT_BEGUN}
    assert all(board.running == first["north"].running for board in boards.values())

    made = release(tmp_path / "2", version="0.0.3")
    boards["south"].cable.left = 0
    cut = roll(made)
    assert (cut["north"].ok, cut["south"].ok, cut["far"].step) == (True, False, NOT_BEGUN)
    boards["south"].mend()
    again = roll(made)
    assert steps(again) == dict.fromkeys(boards, "ok")
    assert again["north"].sent_bytes == 0
    assert all(board.running == made.version for board in boards.values())

    pid = boards["north"].status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        stopped = roll(made)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (stopped["north"].step, stopped["south"].step) == ("not well", NOT_BEGUN)
    assert "no frame was acknowledged" in stopped["north"].message


def test_the_command_says_what_it_would_do_and_what_it_did(machines, inventory, tmp_path, capsys, monkeypatch):
    boards, access = machines
    made = release(tmp_path / "1", version="0.0.1")
    monkeypatch.setattr("devices.cli.deploy.release_for", lambda *_: made)
    link = ["--ssh-config", str(access.config), "--root", access.root, "--python", access.python, "--json"]
    words = ["device", "deploy", "--inventory", str(inventory), "--group", "canary", "--group", "outside", *link]
    assert cli.main([*words, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)["hosts"]
    assert [(one["host"], one["group"], one["running"], one["release"]) for one in planned] == [
        ("north", "canary", None, made.version),
        ("south", "outside", None, made.version),
    ]
    assert cli.main([*words, "--hold-s", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["ok"], result["stopped"]) == (True, False)
    assert [(one["device"], one["running"]) for one in result["hosts"]] == [
        ("home/gate", made.version),
        ("home/yard", made.version),
    ]
    assert boards["far"].running is None


def test_a_board_gets_its_login_and_the_earlier_one_goes_after_it_was_seen_with_it(stand, tmp_path, inventory):
    inventory.write_text(INVENTORY.replace('host = "north"', 'host = "board"'))
    fleet, out = Inventory.read(inventory), tmp_path / "accounts"
    to, file = stand.remote(), stand.root / "etc/edgesem/login"
    (stand.root / "etc/edgesem/send.toml").write_text("# says_user")
    write_accounts(fleet, out)
    assert Logins(out).bring(to, "home/gate").message == "no release runs there: deploy one first"
    assert deploy(to, lambda facts: release(tmp_path / "1"), health_s=HEALTH_S).ok

    def bring():
        return Logins(out).bring(to, "home/gate", health_s=HEALTH_S, hold_s=0.2)

    first = bring()
    assert first.ok, first.message
    assert file.read_text().startswith("home-gate:")
    assert file.stat().st_mode & 0o077 == 0
    assert bring().ok  # once more, as a repeated command does
    write_accounts(fleet, out)
    assert bring().step == "has its login"

    assert write_accounts(fleet, out, ["home-gate"])["new"] == ["home-gate@2"]
    (stand.root / "etc/edgesem/send.toml").write_text("# its login is another")
    wrong = bring()
    assert (wrong.ok, "logged in as nobody" in wrong.message) == (False, True)
    assert write_accounts(fleet, out)["removed"] == []

    (stand.root / "etc/edgesem/send.toml").write_text("# says_user")
    assert bring().ok
    assert file.read_text().startswith("home-gate@2:")
    assert write_accounts(fleet, out)["removed"] == ["home-gate"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a/b": "no colon"}', "[" * 100_000])
def test_a_damaged_file_of_logins_is_refused(tmp_path, text):
    (tmp_path / "logins.json").write_text(text)
    with pytest.raises(InputError):
        Logins(tmp_path)

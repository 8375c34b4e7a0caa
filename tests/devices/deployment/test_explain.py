"""Failed SSH connections to a real sshd: the likely cause and the next step stand in the error."""

import json
import socket
import subprocess
import sys

import pytest

from devices.deployment.access import Access
from devices.deployment.deploy import logs
from devices.deployment.explain import explained
from devices.shell import CommandResult
from edgesem.cli import main as cli
from edgesem.errors import LinkError


@pytest.fixture
def strict(stand, tmp_path):
    """An ssh configuration as most have it: no host key is taken without a question. `known` is its known_hosts."""
    config, known = tmp_path / "config", tmp_path / "known"
    lines = stand.ssh_lines("board").replace("accept-new", "ask").replace(f"{stand.folder}/known", str(known))
    config.write_text(lines)
    return config, known


def test_an_unknown_host_key_is_named_with_the_command_that_makes_it_known(stand, strict, capsys):
    config, known = strict
    link = ["--ssh-config", str(config), "--root", str(stand.root), "--python", sys.executable]
    assert cli.main(["device", "status", "board", *link, "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)["hosts"]
    assert "does not know the board's host key yet" in entry["error"]
    assert f"`ssh -F {config} board` once" in entry["error"]
    by_hand = ["ssh", "-o", "StrictHostKeyChecking=accept-new", "-F", str(config), "board", "true"]  # who answers yes
    subprocess.run(by_hand, check=True, capture_output=True)
    assert known.exists()
    assert cli.main(["device", "status", "board", *link, "--json"]) == 0


def test_another_host_key_than_before_is_told_with_the_one_to_forget(stand, strict):
    config, known = strict
    other = (stand.folder / "key.pub").read_text().split()[:2]  # of somebody else
    known.write_text(f"board {' '.join(other)}\n")
    with pytest.raises(LinkError, match=r"another host key than .*`ssh-keygen -R board`.*somebody may stand between"):
        logs(stand.remote(config), 1)


def test_a_key_that_the_board_does_not_take_and_a_closed_port_are_told(stand, tmp_path):
    config, wrong = tmp_path / "config", tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
    config.write_text(stand.ssh_lines("board").replace(f"{stand.folder}/key", str(wrong)))
    with pytest.raises(LinkError, match=r"does not accept this machine's key: name another with --identity"):
        stand.remote(config).ask("status")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    config.write_text(stand.ssh_lines("board").replace(f"Port {stand.cable.port}", f"Port {closed}"))
    with pytest.raises(LinkError, match="nobody listens there: check --port"):
        stand.remote(config).ask("status")


def test_a_board_without_edgesem_says_so(stand, capsys):
    link = ["--ssh-config", str(stand.config), "--root", str(stand.root), "--python", sys.executable]
    assert cli.main(["device", "status", "board", *link]) == 0
    assert "nothing is installed" in capsys.readouterr().out


def test_a_bundle_that_is_not_there_is_told_before_any_board_is_asked(tmp_path, capsys):
    assert cli.main(["device", "deploy", "board.invalid", "--bundle", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert "none" in said
    assert "asking" not in said


def test_the_words_of_a_program_on_the_board_are_not_taken_for_those_of_ssh():
    said = b"pip: Connection timed out; Host key verification failed.\n"
    assert explained(CommandResult(1, b"", said), "ssh board").endswith("(ssh ended with 1)")
    asked = explained(CommandResult(1, b"", b"sudo: a password is required\n"), "ssh board")
    assert "may not become root there without a password" in asked
    for shell in (b"bash: line 1: sudo: command not found\n", b"sh: 1: sudo: not found\n"):
        assert "reach the board as root@" in explained(CommandResult(127, b"", shell), "ssh board")


def test_who_is_root_already_needs_no_sudo_for_the_log_either():
    access = Access()
    assert access.as_root("edge@board") == ("sudo", "-n")
    assert access.as_root("root@board") == ()
    assert "sudo" not in access.agent("root@board", "status")

"""Deploying over a real SSH connection, and twenty ways in which it fails: the old release must still be running."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from devices.deployment.access import Access
from devices.deployment.deploy import Board as Remote
from devices.deployment.deploy import Progress, deploy, for_each, logs, rollback
from devices.deployment.release import Release, ReleaseMaker, agent_source
from edgesem.cli import main as cli
from edgesem.errors import LinkError, UsageError
from tests.support.board_stand import Stand, until
from tests.support.releases import HEALTH_S, release, remade


@pytest.fixture
def old(stand, tmp_path) -> str:
    """A board that runs a good release, and its name."""
    if stand.running is None:
        progress = bring(stand, release(tmp_path / "old", version="0.0.1"))
        assert progress.ok, progress.message
    return stand.running


def bring(stand, made: Release, tell=lambda _: None, health_s: float = HEALTH_S, config=None) -> Progress:
    return deploy(stand.remote(), lambda facts: made, health_s=health_s, tell=tell, config=config)


def test_a_release_is_sent_once_installed_and_switched_to(stand, tmp_path):
    assert stand.running is None
    first = bring(stand, release(tmp_path / "1", version="0.0.1"))
    assert (first.ok, first.before, first.running) == (True, None, stand.running)
    assert stand.sends()
    assert first.sent_bytes > 1_000_000  # pip is among it

    second = bring(stand, release(tmp_path / "2", version="0.0.2"))
    assert (second.ok, second.before) == (True, first.running)
    assert stand.running == second.running != first.running
    assert second.sent_bytes < 100_000  # only what the board does not have yet
    assert stand.sends()
    assert not stand.on_probation

    assert rollback(stand.remote(), health_s=HEALTH_S) == {"running": first.running}
    assert stand.running == first.running
    assert stand.sends()
    assert "sending good" in logs(stand.remote(), 5)
    status = stand.remote().ask("status")
    assert (status["running"], status["previous"]) == (first.running, second.running)
    assert status["units"] == {"edgesem-sender.service": "active"}
    assert status["sender"]["acknowledged"] > 0


# Each failure is a function of (stand, folder for new files) that tries to deploy and returns the progress.


def cut_after(size):
    def fail(stand, folder):
        stand.cable.left = size
        return bring(stand, release(folder))

    return fail


def at_step(name, do):
    """Do something harmful when the deployment comes to a step."""

    def fail(stand, folder):
        def tell(progress):
            if progress.step == name:
                do(stand)

        return bring(stand, release(folder), tell)

    return fail


def cut_in_transfer(stand, folder):
    made = release(folder)
    made = remade(made, {**made.files, "bundle/large.bin": os.urandom(2_000_000)})

    def tell(progress):
        if progress.step == "sending" and progress.sent_bytes > 1_000_000:
            stand.cable.cut()

    return bring(stand, made, tell)


def behaves(kind):
    return lambda stand, folder: bring(stand, release(folder, kind), health_s=1.5)


def wrong_file(name, content):
    def fail(stand, folder):
        made = release(folder)
        return bring(stand, remade(made, {**made.files, name: content}))

    return fail


def damaged_on_the_way(stand, folder):
    made = release(folder)
    return bring(stand, replace(made, files={**made.files, "bundle/nonce": os.urandom(16)}))


def lost_on_the_way(stand, folder):
    made = release(folder)

    class Loses(Release):
        def write_tar(self, stream, only):
            super().write_tar(stream, list(only)[1:])

    return bring(stand, Loses(made.version, made.files, made.system_packages, made._manifest))


def wheel_that_needs_more(stand, folder):
    return bring(stand, release(folder, requires="no-such-package"))


def disk_too_small(stand, folder):
    made = release(folder)
    return bring(stand, remade(made, {**made.files, "bundle/huge.bin": bytes(70_000_000)}))


def full_in_installation(stand, folder):
    def tell(progress):
        if progress.step == "installing":
            stand.fill()

    # It needs more room than the board can make by clearing away old releases.
    return bring(stand, release(folder, padding=8_000_000), tell)


FAILURES = {
    "cut_in_handshake": cut_after(500),
    "cut_in_first_question": cut_after(12_000),
    "cut_in_second_question": cut_after(45_000),
    "cut_in_transfer": cut_in_transfer,
    "cut_in_installation": at_step("installing: venv", lambda stand: stand.cable.cut()),
    "cut_after_switch": at_step("switched", lambda stand: stand.cable.cut()),
    "cut_before_confirmation": at_step("healthy", lambda stand: stand.cable.cut()),
    "full_before": disk_too_small,
    "full_in_transfer": at_step("sending", Stand.fill),
    "full_in_installation": full_in_installation,
    "full_at_switch": at_step("switching", Stand.fill),
    "bundle_damaged_on_the_way": damaged_on_the_way,
    "file_lost_on_the_way": lost_on_the_way,
    "bundle_not_vouched_for": wrong_file("bundle/encoder.onnx", b"other weights"),
    "bundle_without_manifest": wrong_file("bundle/manifest.json", b"{"),
    "wheel_lacks_another": wheel_that_needs_more,
    "sender_crashes": behaves("crashes"),
    "sender_is_not_heard": behaves("unheard"),
    "sender_fades": behaves("fades"),
    "sender_dies": behaves("dies"),
}
QUICK = ("cut_in_transfer", "cut_before_confirmation", "full_in_installation", "bundle_not_vouched_for", "sender_fades")


def still_runs_the_old(stand, old, failure, folder):
    progress = FAILURES[failure](stand, folder)
    assert progress.ok is False
    assert progress.message
    until(lambda: not stand.on_probation, 60)  # the board goes back by itself, nobody asks it to
    assert stand.running == old
    assert stand.sends()
    until(lambda: all(stand.releases.values()), 120)  # an installation that was under way ends without us, or is undone
    return progress


@pytest.mark.parametrize("failure", QUICK)
def test_a_failed_deployment_leaves_the_old_release_running(failure, stand, old, tmp_path):
    if failure.startswith("full") and not stand.small:
        pytest.skip("a small file system needs root")
    still_runs_the_old(stand, old, failure, tmp_path / "new")


@pytest.mark.long
def test_twenty_failures_one_after_the_other_on_one_board(stand, old, tmp_path):
    if not stand.small:
        pytest.skip("a small file system needs root")
    messages = {}
    for failure in FAILURES:
        messages[failure] = still_runs_the_old(stand, old, failure, tmp_path / failure).message
        stand.mend()
    assert len(messages) == 20
    print(json.dumps(messages, indent=1))
    assert bring(stand, release(tmp_path / "good", version="0.0.3")).ok  # and the board takes the next good one


def test_a_cut_transfer_goes_on_where_it_stopped(stand, old, tmp_path):
    made = release(tmp_path / "new")
    made = remade(made, {**made.files, **{f"bundle/{i}.bin": os.urandom(500_000) for i in range(4)}})

    def tell(progress):
        if progress.sent_bytes > 1_500_000:
            stand.cable.cut()

    cut = bring(stand, made, tell)
    again = bring(stand, made)
    assert (cut.ok, again.ok) == (False, True), again.message
    assert again.to_send_bytes < cut.to_send_bytes


def test_a_board_whose_watcher_was_killed_settles_at_its_next_boot(stand, old, tmp_path):
    def tell(progress):
        if progress.step == "switched":
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if str(stand.root).encode() in path.read_bytes() and b"switch" in path.read_bytes():
                        os.kill(int(path.parent.name), signal.SIGKILL)
                except (OSError, ProcessLookupError):
                    continue

    progress = bring(stand, release(tmp_path / "new", "unheard"), tell)
    assert progress.ok is False
    assert stand.on_probation  # nobody could go back
    agent = stand.root / "opt/edgesem/agent.py"  # as edgesem-settle.service runs it
    subprocess.run([sys.executable, agent, "settle", "--root", stand.root], check=True, capture_output=True)
    assert (stand.running, stand.on_probation) == (old, False)
    assert stand.sends()


def test_a_configuration_comes_and_goes_with_the_switch(stand, old, tmp_path):
    send, extra = stand.root / "etc/edgesem/send.toml", stand.root / "etc/edgesem/ca.pem"
    before = send.read_bytes()
    new = {"send.toml": b"[stream]\nfps = 2\n", "ca.pem": b"certificate"}
    bad = bring(stand, release(tmp_path / "bad", "unheard"), health_s=1.5, config=new)
    assert (bad.ok, send.read_bytes(), extra.exists()) == (False, before, False)
    assert stand.sends()
    good = bring(stand, release(tmp_path / "good"), config=new)
    assert (good.ok, send.read_bytes(), extra.read_bytes()) == (True, new["send.toml"], b"certificate")


def test_two_deployments_at_once_do_not_mix(stand, old, tmp_path, monkeypatch):
    second = []

    def tell(progress):
        if progress.step == "switched":
            impatient = agent_source().replace(b"_LOCK_S = 15.0", b"_LOCK_S = 0.5")
            with monkeypatch.context() as patch:
                for module in ("access", "deploy"):
                    patch.setattr(f"devices.deployment.{module}.agent_source", lambda: impatient)
                second.append(bring(stand, release(tmp_path / "other", version="0.0.4")))

    first = bring(stand, release(tmp_path / "new"), tell)
    assert first.ok
    assert second[0].ok is False
    assert "under way" in second[0].message
    assert stand.running == first.running


@pytest.mark.parametrize("machines", [2, pytest.param(3, marks=pytest.mark.long)], indirect=True)
def test_separate_machines_are_deployed_to_at_once_and_one_that_is_cut_off_holds_up_none(machines, tmp_path, capsys):
    boards, access = machines
    all_send = threading.Barrier(len(boards), timeout=300)

    def all_at_once(made, tell=lambda _: None):
        maker = ReleaseMaker(lambda facts: made)

        def one(host):
            return deploy(Remote(host, access), maker, health_s=HEALTH_S, tell=tell)

        return dict(zip(boards, for_each(list(boards), one), strict=True))

    first = all_at_once(release(tmp_path / "1"))
    assert [(p.ok, p.message) for p in first.values()] == [(True, "")] * len(boards)
    assert all(board.sends() for board in boards.values())

    def cut(progress):
        if progress.step == "sending" and not progress.sent_bytes:
            all_send.wait()  # nobody's turn comes after another's
        if progress.host == "far" and progress.step == "switched":
            boards["far"].cable.cut()

    second = all_at_once(release(tmp_path / "2"), cut)
    assert {name: p.ok for name, p in second.items()} == {name: name != "far" for name in boards}
    for name, board in boards.items():
        until(lambda board=board: not board.on_probation, 60)
        assert board.running == (first if name == "far" else second)[name].running
        assert board.sends()

    link = ["--ssh-config", str(access.config), "--root", access.root, "--python", access.python, "--json"]
    assert cli.main(["device", "status", *boards, *link]) == 0
    told = {entry["host"]: entry["running"] for entry in json.loads(capsys.readouterr().out)["hosts"]}
    assert told == {name: board.running for name, board in boards.items()}


def test_a_board_that_does_not_answer_is_one_line_not_the_end(stand, old, capsys):
    stand.cable.left = 0
    args = ["device", "status", "board", "--ssh-config", str(stand.config), "--root", str(stand.root), "--json"]
    code = cli.main(args)
    (entry,) = json.loads(capsys.readouterr().out)["hosts"]
    assert (code, entry["ok"]) == (1, False)
    assert (entry["host"], "ssh ended with 255" in entry["error"]) == ("board", True)


def test_many_boards_go_back_and_tell_their_logs_and_one_that_cannot_is_a_line(stand, old, capsys):
    link = ["--ssh-config", str(stand.config), "--root", str(stand.root)]
    assert cli.main(["device", "rollback", "board", "-x", *link]) == 2  # no host, and no board is asked
    capsys.readouterr()
    assert cli.main(["device", "rollback", "board", "--to", "0.0.0-none", *link, "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)["hosts"]
    assert "0.0.0-none is not on the board" in entry["error"]
    assert cli.main(["device", "rollback", "board", "--to", old, *link, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hosts"] == [{"host": "board", "ok": True, "running": old}]
    assert cli.main(["device", "logs", "board", "same-board", "--lines", "1", *link]) == 0
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()] == ["board", "same-board"]


def test_an_old_python_is_refused_before_anything_is_sent(stand, tmp_path):
    fake = tmp_path / "python3.8"
    program = "import sys; sys.version_info = (3, 8); exec(sys.argv[1])"
    fake.write_text(f"#!/bin/sh\nshift\nexec {sys.executable} -c '{program}' \"$@\"\n")
    fake.chmod(0o755)
    board = Remote("board", Access(config=stand.config, root=str(stand.root), python=str(fake)))
    with pytest.raises(LinkError, match=r"needs Python 3\.10"):
        board.ask("facts")


def test_a_host_cannot_smuggle_options_into_ssh():
    with pytest.raises(UsageError, match="no host"):
        Access().argv("-oProxyCommand=touch /tmp/x", "true")


def test_root_on_the_board_is_reached_with_sudo_unless_one_is_root():
    assert "sudo -n python3 -c" in Access().agent("edge@cam", "facts")[-1]
    assert "sudo" not in Access().agent("root@cam", "facts")[-1]
    assert "sudo" not in Access(root="/srv/trial").agent("edge@cam", "facts")[-1]


def test_one_release_is_made_for_each_kind_of_python():
    made = []

    def make(facts):
        made.append(facts["python"])
        return facts["python"]

    maker = ReleaseMaker(make)
    kinds = [{"arch": "aarch64", "python": v, "libc": "glibc2.36", "model": ""} for v in ("3.11", "3.13", "3.11")]
    assert [maker(facts) for facts in kinds] == ["3.11", "3.13", "3.11"]
    assert made == ["3.11", "3.13"]

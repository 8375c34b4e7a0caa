"""The program on the board, where it reads what came over the wire: nothing but a refusal, and nothing left behind."""

import contextlib
import hashlib
import io
import json
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.board import Board
from devices.onboard import main as agent
from devices.onboard.intake import receive
from devices.onboard.layout import Layout, Refused, checked
from devices.onboard.probation import configure, settle
from devices.onboard.services import Services, hand_over
from devices.units import unit_files

GOOD = {"version": "1.0-abc", "files": {"wheels/a.whl": ["0" * 64, 3]}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def layout(tmp_path) -> Layout:
    layout = Layout(str(tmp_path / "root"))
    os.makedirs(layout.base)
    return layout


def tar_of(*entries: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@given(json_values | st.fixed_dictionaries({"version": json_values, "files": json_values}))
@settings(max_examples=200, deadline=None)
def test_any_json_as_a_manifest_is_refused_or_harmless(value):
    try:
        manifest = checked(value)
    except Refused:
        return
    assert all(".." not in path.split("/") and not path.startswith("/") for path in manifest["files"])


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\0b"])
def test_a_manifest_cannot_name_a_file_elsewhere(path):
    assert checked(GOOD)
    with pytest.raises(Refused):
        checked({**GOOD, "files": {path: ["0" * 64, 3]}})


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "x" * 100, 3])
def test_a_version_is_the_name_of_one_folder(version):
    with pytest.raises(Refused):
        checked({**GOOD, "version": version})


@given(st.binary(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_any_bytes_as_a_transfer_leave_nothing_that_counts(tmp_path_factory, data):
    layout = Layout(str(tmp_path_factory.mktemp("place")))
    with contextlib.suppress(Refused):
        receive(layout, io.BytesIO(data))
    assert os.listdir(layout.blobs) == []


@given(st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_a_transfer_cut_anywhere_leaves_whole_files_only(tmp_path_factory, size):
    layout = Layout(str(tmp_path_factory.mktemp("place")))
    contents = [b"a" * 700, b"b" * 900]
    data = tar_of(*((hashlib.sha256(content).hexdigest(), content) for content in contents))
    with contextlib.suppress(Refused):
        receive(layout, io.BytesIO(data[:size]))
    for name in os.listdir(layout.blobs):
        with open(os.path.join(layout.blobs, name), "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == name


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "0" * 63, "G" * 64])
def test_a_transferred_file_has_a_digest_for_a_name(layout, name):
    with pytest.raises(Refused):
        receive(layout, io.BytesIO(tar_of((name, b"x"))))


def test_a_link_in_a_transfer_is_refused(layout):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("0" * 64)
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(Refused):
        receive(layout, io.BytesIO(stream.getvalue()))


@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=150, deadline=None)
def test_any_bytes_as_a_configuration_are_refused_or_stay_in_their_folder(tmp_path_factory, data):
    layout = Layout(str(tmp_path_factory.mktemp("place")))
    os.makedirs(layout.base)
    try:
        names = configure(layout, data)
    except Refused:
        return
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_a_damaged_note_of_a_switch_does_not_stop_the_board(layout):
    for text in ("", "{", "[]", '{"to": 3}', '{"to": "x", "back": "gone", "etc": {}}'):
        with open(layout.pending, "w") as file:
            file.write(text)
        settle(layout, Services(layout))  # nothing to go back to: nothing runs, and no exception
        assert layout.running() is None


def test_the_board_says_what_it_is(layout, capsys):
    assert agent.main(["facts", "--root", layout.root]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["arch"] == os.uname().machine
    assert facts["libc"].startswith("glibc") or facts["libc"] == ""
    assert facts["running"] is None


def test_a_32_bit_python_on_a_64_bit_kernel_is_a_32_bit_board(layout, capsys, monkeypatch):
    """Raspberry Pi OS of 32 bits runs on a kernel of 64, which says aarch64."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for largest, arch in ((2**63 - 1, "aarch64"), (2**31 - 1, "armv8l")):
        monkeypatch.setattr("sys.maxsize", largest)
        assert agent.main(["facts", "--root", layout.root]) == 0
        assert json.loads(capsys.readouterr().out)["arch"] == arch


def test_secrets_are_handed_to_the_services_but_not_what_a_link_leads_to(tmp_path):
    elsewhere, etc = tmp_path / "ca-certificates.crt", tmp_path / "etc"
    (etc / "more").mkdir(parents=True, mode=0o700)
    for path in (elsewhere, etc / "key", etc / "more/key"):
        path.write_text("")
        path.chmod(0o644)
    (etc / "ca.pem").symlink_to(elsewhere)
    (etc / "gone").symlink_to(tmp_path / "gone")
    (etc / "all").symlink_to(tmp_path)
    hand_over(str(etc), os.geteuid(), os.getegid())
    modes = [path.stat().st_mode & 0o777 for path in (etc / "key", etc / "more/key", etc / "more")]
    assert modes == [0o640, 0o640, 0o750]
    assert elsewhere.stat().st_mode & 0o777 == 0o644


def test_the_card_s_release_does_not_replace_one_that_was_deployed_later(layout, tmp_path):
    later = layout.release("2-later")
    os.makedirs(later)
    with open(os.path.join(later, "release.json"), "w") as file:
        file.write("{}")
    os.symlink("releases/2-later", layout.current)
    (tmp_path / "manifest.json").write_text(json.dumps(GOOD))
    assert agent.main(["take", str(tmp_path), "--root", layout.root, "--no-start"]) == 0
    assert layout.running() == "2-later"


def test_a_configuration_that_somebody_else_brought_meanwhile_is_not_switched_to(layout, monkeypatch, capsys):
    mine, other = (json.dumps({"send.toml": text}).encode() for text in ("bWluZQ==", "b3RoZXI="))
    for data in (mine, other):
        configure(layout, data)
    digest = hashlib.sha256(mine).hexdigest()
    assert agent.main(["switch", "1", "--configured", digest, "--root", layout.root]) == 1
    assert "somebody else" in capsys.readouterr().out
    assert not os.path.exists(os.path.join(layout.etc, "send.toml"))


@pytest.mark.parametrize("board", ["jetson-orin-nano", "raspberry-pi-5"])
def test_a_board_with_tensorrt_builds_its_engine_beside_the_sender(layout, board):
    calls, systemctl = os.path.join(layout.root, "calls"), os.path.join(layout.root, "usr/bin/systemctl")
    for name, data in {
        f"opt/edgesem/releases/1/units/{k}": v for k, v in unit_files(Board.load(board)).items()
    }.items():
        os.makedirs(os.path.dirname(os.path.join(layout.root, name)), exist_ok=True)
        with open(os.path.join(layout.root, name), "wb") as file:
            file.write(data)
    for name, text in (("usr/bin/systemctl", f'#!/bin/sh\necho "$@" >> {calls}\n'), ("etc/edgesem/send.toml", "")):
        os.makedirs(os.path.dirname(os.path.join(layout.root, name)), exist_ok=True)
        with open(os.path.join(layout.root, name), "w") as file:
            file.write(text)
    os.chmod(systemctl, 0o755)
    Services(layout).apply("1")
    with open(calls) as file:
        told = {line.split()[0]: line.split()[1:] for line in file}
    for verb in ("enable", "restart"):
        assert "edgesem-sender.service" in told[verb]
        assert ("edgesem-engine.service" in told[verb]) == (board != "raspberry-pi-5")
    assert "--no-block" in told["restart"]  # building takes minutes, in which frames must be acknowledged


def test_the_process_that_goes_away_does_not_vouch_for_the_one_that_comes(layout):
    """systemd restarts without waiting, and the old sender goes on acknowledging until it is stopped."""
    systemctl = os.path.join(layout.root, "usr/bin/systemctl")
    for folder in ("usr/bin", "etc/edgesem", "run/edgesem", "opt/edgesem/releases/1/units"):
        os.makedirs(os.path.join(layout.root, folder), exist_ok=True)
    count = os.path.join(layout.root, "count")
    status = os.path.join(layout.run, "send.json")
    with open(systemctl, "w") as file:  # each question finds more acknowledged, by the process of before
        file.write(
            f"#!/bin/sh\n[ $1 = is-active ] || exit 0\n"
            f"n=$(cat {count} 2>/dev/null || echo 0); n=$((n+5)); echo $n > {count}\n"
            f'echo \'{{"pid": 7, "frames": 1, "acknowledged": \'$n\'}}\' > {status}\necho active\n'
        )
    os.chmod(systemctl, 0o755)
    for path in (status, os.path.join(layout.etc, "send.toml")):
        with open(path, "w") as file:
            file.write('{"pid": 7, "frames": 1, "acknowledged": 0}')
    services = Services(layout)
    services.apply("1")
    with pytest.raises(Refused, match="gives no status"):
        services.wait_until_healthy(0.6, 3, lambda word: None)
    with open(systemctl) as file:
        script = file.read().replace('"pid": 7', '"pid": 8')
    with open(systemctl, "w") as file:
        file.write(script)
    services.wait_until_healthy(10, 3, lambda word: None)  # a new process may

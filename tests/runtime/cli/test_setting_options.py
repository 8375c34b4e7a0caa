"""Options of commands that set one setting each: of its type, and with its default where they show a number."""

import contextlib
import dataclasses
from typing import get_args, get_type_hints

import pytest

from edgesem.cli import main as cli
from runtime.cli import broker, options, receive, send
from runtime.daemon.broker_settings import BrokerServiceSettings
from runtime.daemon.receive_settings import ReceiveSettings
from runtime.daemon.send_settings import SendSettings


@pytest.mark.parametrize(
    ("command", "kind"), [(send, SendSettings), (receive, ReceiveSettings), (broker, BrokerServiceSettings)]
)
def test_an_option_has_the_type_and_the_default_of_its_setting(command, kind):
    for option, flag in command._FLAGS.items():
        *names, last = flag.key.split(".")
        holder = kind if not names else get_type_hints(kind)[names[0]]
        hint = get_type_hints(holder)[last]
        assert flag.kind in (hint, *get_args(hint), *(list[one] for one in get_args(hint))), option
        with contextlib.suppress(ValueError):
            shown = float(flag.default)
            assert shown == next(one.default for one in dataclasses.fields(holder) if one.name == last), option


@pytest.mark.parametrize("name", ["send", "receive", "broker"])
def test_help_has_the_whole_name_of_each_option_at_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    flags = {"send": send, "receive": receive, "broker": broker}[name]._FLAGS
    assert [option for option in flags if option not in shown.replace(",", " ")] == []


def test_an_option_that_takes_something_away_gives_false():
    given = {flag.parameter: None for flag in receive._FLAGS.values()}
    assert options._gathered(receive._FLAGS, given)["out.home_assistant_control"] is None
    given["out_home_assistant_control"] = True  # as the command line has it: the option is there
    assert options._gathered(receive._FLAGS, given)["out.home_assistant_control"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["send", "--port", "99999"], "command line: --port is 99999, must be"),
        (["send", "--ca-file", "x"], "--ca-file and --cert-file are of no use without --tls"),
        (["send", "--schedule", "sunset..sunrise=1"], "need a position: name --position"),
        (["send", "--once", "--live", "on-demand"], "--live on-demand waits for viewers, --once sends"),
        (["receive", "--as", "png"], "command line: --as png needs a folder to write to: name one by --out"),
        (["receive", "--promised-max-age", "1d"], "so give an --max-age"),
        (["receive", "--on-event-command", "x"], "name one by --out"),
        (["receive", "--http", "x"], "--http: 'x' is no address"),
        (["broker", "--cert-file", "x"], "--cert-file and --key-file belong together"),
    ],
)
def test_an_error_names_the_option_that_was_given(words, says, capsys):
    assert cli.main(words) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_an_error_names_what_stands_in_the_file_as_it_stands_there(tmp_path, capsys):
    config = tmp_path / "r.toml"
    config.write_text('[out]\nkind = "png"\nhttp = "x"\n[draw]\nbacklog = 2\n')
    assert cli.main(["receive", "--config", str(config)]) == 2
    assert "out.kind png needs a folder to write to: name one by --out" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["receive", "--config", str(config), "--out", str(tmp_path)]) == 2
    assert "out.http: 'x' is no address" in " ".join(capsys.readouterr().err.split())
    config.write_text("[broker]\nport = 1883\n")
    assert cli.main(["receive", "--config", str(config), "--port", "99999"]) == 2
    assert "command line: --port is 99999" in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_named_by_its_option(tmp_path, capsys):
    (tmp_path / "file").touch()
    for option, more in (("--out", []), ("--archive", []), ("--state-dir", ["--shard", "0/2"])):
        assert cli.main(["receive", option, str(tmp_path / "file/folder"), *more]) == 1
        assert f"cannot be used: Not a directory; name another by {option}" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert cli.main(["receive", "--out", str(tmp_path / "loop")]) == 1
    assert "cannot be used: " in " ".join(capsys.readouterr().err.split())

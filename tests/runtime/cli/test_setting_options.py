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

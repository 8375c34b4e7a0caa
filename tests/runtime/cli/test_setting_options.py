"""Options of commands that set one setting each: of its type, and with its default where they show a number."""

import contextlib
import dataclasses
from typing import get_args, get_type_hints

import pytest

from runtime.cli import broker, receive, send
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

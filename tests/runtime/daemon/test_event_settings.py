"""Settings of events: what goes together, and how a command line is parted."""

import pytest

from edgesem.cli.main import main
from edgesem.config import load_config
from edgesem.errors import UsageError
from runtime.capture.gpio_line import GpioPin
from runtime.cli.receive import _command
from runtime.daemon.event_settings import EventSettings, GatherSettings
from runtime.daemon.receive_settings import ReceiveSettings
from runtime.daemon.send_settings import SendSettings
from runtime.sender.options import SenderOptions
from runtime.sender.stream_sender import StreamSender


def test_without_events_the_sender_is_told_of_none():
    assert EventSettings().options() is None
    options = EventSettings(on=True, before="1min", after="90s", causes=("gpio",)).options()
    assert (options.before_s, options.after_s, options.causes) == (60, 90, ("gpio",))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"before": "long"}, "span of time"),
        ({"before": "3min"}, "before_s"),
        ({"causes": ("door",)}, "door makes no event"),
        ({"gpio": "17", "on": True}, "CHIP:LINE"),
        ({"gpio": "gpiochip0:17"}, r"event\.on"),
    ],
)
def test_values_that_cannot_be_are_refused(wrong, why):
    with pytest.raises(UsageError, match=why):
        EventSettings(**wrong)


def test_the_line_has_the_edge_bias_and_debounce_of_the_settings():
    event = EventSettings(on=True, gpio="gpiochip0:17", gpio_edge="falling", gpio_bias="pull-up", gpio_debounce_s=0.1)
    assert event.pin() == GpioPin("/dev/gpiochip0", 17, "falling", "pull-up", 0.1)


@pytest.mark.parametrize("given", [{"event.command": ("a",)}, {"event.webhook": "http://a/"}])
def test_hooks_need_a_folder_for_the_clips(given, tmp_path):
    with pytest.raises(UsageError, match=r"out\.folder"):
        load_config(None, ReceiveSettings, given)
    assert load_config(None, ReceiveSettings, {**given, "out.folder": tmp_path}).event.active


def test_a_command_is_parted_as_a_shell_does_and_not_run_by_one():
    assert _command("notify --to 'a b' $HOME;x") == ("notify", "--to", "a b", "$HOME;x")
    assert _command(None) is None
    with pytest.raises(UsageError, match="No closing quotation"):
        _command("notify 'a")
    with pytest.raises(UsageError, match="name of a program"):
        GatherSettings(command=("", "x"))


@pytest.mark.parametrize(
    "arguments", [("--event-before", "2s"), ("--event-fps", "2"), ("--events", "--once"), ("--event-gpio", "a:1")]
)
def test_options_of_events_without_events_are_refused(arguments, tmp_path, capsys):
    assert main(["send", str(tmp_path), "--state-dir", str(tmp_path / "state"), *arguments]) == 2
    assert "--events" in capsys.readouterr().err


def test_events_need_a_folder_in_python_too():
    options = SenderOptions(events=EventSettings(on=True).options())
    with pytest.raises(UsageError, match="events are promised frames"):
        StreamSender("127.0.0.1", "home/gate/main", options)
    assert load_config(None, SendSettings, {"event.on": True}).event.on

"""Command line options that several commands share, each in one place."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer

from edgesem.config import read_toml
from edgesem.errors import EdgesemError, EnvironmentMissing, InputError, UsageError

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON.")]
BundleOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the bundle; sender and receiver need the same.", show_default="the one that ships"),
]
BundlesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="Folder of the senders' bundle; may be repeated, `default` is the one that ships.",
        show_default="the one that ships",
    ),
]
StampOption = Annotated[
    str,
    typer.Option(
        help="Write time, camera and 'drawn' over the pictures: off, small, bar, or auto (a label where detail was "
        "invented)."
    ),
]
DecoderOption = Annotated[
    str,
    typer.Option(
        metavar="auto|small|large",
        help="Base decoder; auto: the large one if the bundle has it and no steps are taken.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="TOML file with the same settings; options here take precedence.")
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of what must survive a restart: promised frames, keys, passwords.",
        show_default="$STATE_DIRECTORY, or by XDG",
    ),
]
Given = dict[str, Any]
"""Dotted settings, such as `broker.host`, as `edgesem.config.load_config` takes them; None: not given."""


class Flag(NamedTuple):
    """What `--help` says of an option, and which setting it gives."""

    key: str
    """Dotted, such as `stream.fps`. An option whose name begins with `--no-` sets it to false."""
    kind: type
    """That of the setting, which is not imported for `--help`; a list may be given again and again."""
    help: str
    default: str = ""
    """As it is shown; nothing if empty."""
    metavar: str | None = None

    @property
    def parameter(self) -> str:
        """Name of the parameter that it becomes."""
        return self.key.replace(".", "_")


_BROKER = {
    "--host --broker": Flag(
        "broker.host",
        list[str],
        "Host name or address of the MQTT broker; several nodes of a cluster: A,B,C, or repeated.",
        "127.0.0.1",
    ),
    "--port": Flag("broker.port", int, "Port of the broker.", "1883"),
    "--user": Flag("broker.user", str, "User name for the broker."),
    "--password-file": Flag(
        "broker.password_file", Path, "File with the password, readable by you alone.", "$EDGESEM_PASSWORD"
    ),
    "--tls": Flag("broker.tls", bool, "Connect with TLS."),
    "--ca-file": Flag(
        "broker.ca_file", Path, "CA certificate that signed the broker's, for --tls.", "the system's CAs"
    ),
    "--cert-file": Flag("broker.cert_file", Path, "Client certificate, for --tls."),
    "--key-file": Flag("broker.key_file", Path, "Private key of the client certificate."),
    "--seal-key-file": Flag(
        "seal.key_file",
        Path,
        "Key of sealed (encrypted) streams, as `edgesem key` makes it.",
        "$EDGESEM_SEAL_KEY, else not sealed",
    ),
}


def broker_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command for Typer, with the options `--host` to `--seal-key-file` in place of its parameter `broker`.

    @broker_options
    def ask(stream: str, broker: Given, json_: JsonOption = False) -> None: ...
    """

    def gather(**values: Any) -> Given:
        given = _gathered(_BROKER, values)
        hosts = given["broker.host"]
        return given | {"broker.host": ",".join(hosts) if hosts else None, "broker.hosts": () if hosts else None}

    return expanded(command, "broker", _parameters(_BROKER), gather, _BROKER)


_OTHER_OPTIONS = {
    "source.uri": "source",
    "stream.bundle": "bundle",
    "draw.bundle": "bundle",
    "draw.more_bundles": "bundle",
    "once.frames": "once",
    "schedule.latitude": "position",
    "schedule.longitude": "position",
    "event.command": "on_event_command",
    "monitor.state_dir": "state_dir",
}
"""Settings that a parameter of a command gives, where it has that."""
_SETTING = re.compile(r"(?<![\w./-])[a-z]+\.[a-z_]+(?![\w/])")


def named_as_given(message: str, options: Mapping[str, str], config: Path | None) -> str:
    """A message in which settings, such as `broker.port`, are called by their options, as `options` has them.

    Those in the file `config` keep their names, where the command line did not replace them.
    """
    tree: Mapping[str, Any] = {}
    with contextlib.suppress(EdgesemError):  # then that is what the message says
        tree = {} if config is None else read_toml(config)

    def called(found: re.Match[str]) -> str:
        section, _, key = found[0].partition(".")
        table = tree.get(section)
        written = isinstance(table, dict) and key in table and not message.startswith(f"command line: {found[0]} ")
        return found[0] if written else options.get(found[0], found[0])

    return re.sub(r"(--[\w-]+) and \1(?![\w-])", r"\1", _SETTING.sub(called, message))


def setting_options(flags: Mapping[str, Flag]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a command: these options, by name, in place of its parameter `given`."""
    return lambda command: expanded(
        command, "given", _parameters(flags), lambda **values: _gathered(flags, values), flags
    )


def _gathered(flags: Mapping[str, Flag], values: Mapping[str, Any]) -> Given:
    given = {flag.key: values[flag.parameter] for flag in flags.values()}
    for names, flag in flags.items():
        if names.startswith("--no-") and given[flag.key]:
            given[flag.key] = False
    return {key: tuple(value) or None if isinstance(value, list) else value for key, value in given.items()}


def _parameters(flags: Mapping[str, Flag]) -> list[inspect.Parameter]:
    """The parameters from which Typer makes the options."""
    made = []
    for names, flag in flags.items():
        about = typer.Option(*names.split(), help=flag.help, metavar=flag.metavar, show_default=flag.default or False)
        annotation = Annotated[Optional[flag.kind], about]  # type: ignore[name-defined]  # noqa: UP045
        keyword = inspect.Parameter.KEYWORD_ONLY
        made.append(inspect.Parameter(flag.parameter, keyword, default=None, annotation=annotation))
    return made


def expanded(
    command: Callable[..., None],
    name: str,
    parameters: Iterable[inspect.Parameter],
    gather: Callable[..., Any],
    flags: Mapping[str, Flag] | None = None,
) -> Callable[..., None]:
    """The same command with `parameters` in place of the one called `name`, which gets what `gather` makes of them.

    What it raises names settings as the user gave them: by their `flags`, or as in the file.
    """
    ours = {one.name: one for one in parameters}
    all_: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        all_ += ours.values() if parameter.name == name else [parameter]

    options = {flag.key: names.split()[0] for names, flag in (flags or {}).items()}
    for key, other in _OTHER_OPTIONS.items():
        if any(one.name == other for one in all_):
            options[key] = "SOURCE" if other == "source" else f"--{other.replace('_', '-')}"

    def run(**given: Any) -> None:
        gathered = gather(**{one: given.pop(one) for one in ours})
        try:
            command(**given, **{name: gathered})
        except (UsageError, InputError, EnvironmentMissing) as error:
            error.args = (named_as_given(str(error), options, given.get("config")),)
            raise

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in all_]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in all_}
    return run

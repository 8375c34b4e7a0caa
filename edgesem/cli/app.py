"""Typer's side of the command `edgesem`: arguments, help and all commands.

Commands are the entry points of the group `edgesem.commands`: plain functions with Typer's annotations, whose docstring
ends with a paragraph `Example: ...`. A command whose extra is not installed is listed all the same, with its options,
and says what to install.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgesem.cli.console import emit
from edgesem.errors import EdgesemError, EnvironmentMissing, MissingDependency, UsageError, install_hint

# What must be importable for an extra to count as installed.
MARKERS = {
    "export": ("torch", "onnx", "onnxscript"),
    "tensorrt": ("tensorrt",),
    "optimum": ("optimum", "transformers"),
    "measure": ("matplotlib", "ai_edge_litert"),
    "text": ("tokenizers",),
    "bench": ("av", "matplotlib"),
    "devices": ("tomli_w",),
    "video": ("av",),
}
_GROUP_HELP = {
    "account": "Accounts of `edgesem broker`: who may log in, and which topics each may use.",
    "archive": "Draw and list what a receiver has kept.",
    "ask": "Ask a running sender for something.",
    "fleet": "A fleet as a whole: how each camera fares, how streams fall to receivers, accounts.",
    "bench": "Measure edgesem beside other codecs.",
    "catalogue": "One catalogue of what several receivers take, with packets in an object store or a shared folder.",
    "device": "Set up boards: cards, deployment, checks.",
}

# Typer has its own copy of click's exceptions in newer versions; this is the one its parser raises.
_ParseError: type[Exception] = typer.BadParameter.__mro__[1]


def run_typer(args: Sequence[str], found: Sequence[EntryPoint]) -> int:
    """Run what `args` say, with the commands that were `found`; returns the exit code.

    Raises UsageError for arguments that cannot be read, and what the command raises.
    """
    try:
        code = typer.main.get_command(app(args, found)).main(args, prog_name="edgesem", standalone_mode=False)
    except _ParseError as error:
        raise UsageError(_usage_message(error)) from error
    except typer.Abort as abort:
        if isinstance(abort.__context__, EOFError):  # Typer takes it for the end of an input at a terminal
            raise abort.__context__ from None
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0


def app(args: Sequence[str], found: Sequence[EntryPoint]) -> typer.Typer:
    """The command line with every command that was found; only those of one name, where `args` begin with it.

    To read the signatures of all of them takes longer than many a command does, seconds on a small board.
    """
    shown = typer.Typer(
        name="edgesem",
        help="Pictures as semantic packets that fit a thin link.",
        epilog="Example: `edgesem demo`",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # the default would take the brackets of `edgesem[export]` for a colour
    )
    shown.callback(invoke_without_command=True)(_front)
    groups: dict[str, typer.Typer] = {}
    named = [entry for entry in found if entry.name.partition(".")[0] == next(iter(args), "")]
    for entry in named or found:
        command = _Command.of(entry)
        group, _, name = entry.name.rpartition(".")
        if group and group not in groups:
            groups[group] = typer.Typer(rich_markup_mode="markdown")
            groups[group].callback(invoke_without_command=True)(_show_help)
            shown.add_typer(groups[group], name=group, help=_GROUP_HELP.get(group, f"Commands: {group} ..."))
        command.add_to(groups.get(group, shown), name)
    return shown


def _front(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="With --version: print JSON.")] = False,
) -> None:
    if version:
        import platform

        import edgesem

        result = {"name": "edgesem", "version": edgesem.__version__, "python": platform.python_version()}
        emit(result, json_, lambda r: f"edgesem {r['version']} (Python {r['python']})")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if json_:
            raise UsageError(f"--json goes after the command: edgesem {context.invoked_subcommand} ... --json")
        return
    if not getattr(context.command, "commands", None):
        raise EnvironmentMissing(
            "edgesem is not installed in this Python, so it has no commands: run pip install . in a checkout"
        )
    if json_:
        raise UsageError("no command named: run edgesem --help to see them")
    _show_help(context)


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(UsageError.exit_code)


@dataclass(frozen=True)
class _Command:
    """One command as it was found: what to run, or why it cannot run."""

    run: Callable[..., Any] | None
    help: str
    example: str
    problem: EdgesemError | None

    @classmethod
    def of(cls, entry: EntryPoint) -> _Command:
        """What `entry` names. Never raises: a broken command must not take the others with it."""
        run, about, example = None, "", ""
        problem: EdgesemError | None = None
        try:
            problem = _missing_extra(entry)
            run = entry.load()
            about, example = documentation(run)
            trial = typer.Typer(add_completion=False)
            trial.command()(run)
            typer.main.get_command(trial)  # a signature that Typer cannot read would stop all commands
        except Exception as error:  # anything can go wrong in a module that somebody else wrote
            run = None
            problem = problem or EnvironmentMissing(
                f"edgesem {entry.name} cannot be loaded from {entry.value} ({type(error).__name__}: {error}): "
                f"reinstall edgesem"
            )
        return cls(run, about, example, problem)

    def add_to(self, app: typer.Typer, name: str) -> None:
        problem = self.problem
        if problem is None:
            assert self.run is not None
            app.command(name, cls=_FiniteCommand, help=self.help, epilog=self.example or None)(self.run)
            return
        app.command(
            name,
            cls=_refusing(problem),
            help="\n\n".join(filter(None, (self.help, str(problem)))),
            short_help=" ".join(filter(None, (self.help.split("\n\n")[0], str(problem).partition(" from ")[0]))),
            epilog=self.example or None,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(self.run or (lambda: None))


class _FiniteCommand(TyperCommand):
    """A command whose numbers are finite: `nan` is within every range that Typer checks."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        left: list[str] = super().parse_args(context, args)
        for option in self.params:
            value = context.params.get(option.name)
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, float) and not math.isfinite(one):
                    raise typer.BadParameter(f"{one} is not a finite number", ctx=context, param=option)
        return left


def _refusing(problem: EdgesemError) -> type[TyperCommand]:
    """A command that shows its help, with its options, and ends with `problem` for everything else."""

    class Refusing(TyperCommand):
        def parse_args(self, context: Any, args: list[str]) -> list[str]:
            if not {"--help"} & set(args):
                raise problem
            return super().parse_args(context, args)

    return Refusing


def _missing_extra(entry: EntryPoint) -> MissingDependency | None:
    """What to install before `entry` can run; None if it is all there."""
    missing = [extra for extra in entry.extras if not all(map(find_spec, MARKERS.get(extra, ())))]
    if not missing:
        return None
    return MissingDependency(f"edgesem {entry.name.replace('.', ' ')} needs: {install_hint(*missing)}")


def documentation(run: Callable[..., Any]) -> tuple[str, str]:
    """The text and the example of a command's docstring; the example stands in its last paragraph."""
    paragraphs = inspect.cleandoc(run.__doc__ or "").split("\n\n")
    if not paragraphs[-1].startswith("Example:"):
        return "\n\n".join(paragraphs), ""
    example = " ".join(paragraphs.pop().removeprefix("Example:").replace("`", "").split())
    return "\n\n".join(paragraphs), f"Example: `{example}`"


def _usage_message(error: Exception) -> str:
    """One line for an error of Typer's parser: which command, what is wrong, where to look."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "edgesem"
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    return f"{path}: {text.rstrip('.')} (see {path} --help)"

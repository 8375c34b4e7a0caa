"""Typer's Option and Argument for commands that must start fast: Typer itself is loaded when it is needed.

    from edgesem.cli import lazy_typer as typer

A daemon of a board is started with plain arguments (`edgesem.cli.plain_arguments`). Typer, with Rich and pydantic below
it, would cost it a fifth of the time to its first packet, and 15 MB for as long as it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin


@dataclass(frozen=True)
class Parameter:
    """What Typer is to be told of a parameter: `kind` is Option or Argument, the rest as Typer takes it."""

    kind: str
    names: tuple[str, ...]
    details: dict[str, Any]


class Exit(Exception):
    """Ends a command with an exit code, as `typer.Exit` does."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.exit_code = code


def Option(*names: str, **details: Any) -> Any:  # noqa: N802, the name of Typer
    """As `typer.Option`, in an annotation."""
    return Parameter("Option", names, details)


def Argument(**details: Any) -> Any:  # noqa: N802, the name of Typer
    """As `typer.Argument`, in an annotation."""
    return Parameter("Argument", (), details)


def for_typer(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with Typer's own annotations; itself, if it has none of those above."""
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())
    if not any(parameter_of(one.annotation) for one in parameters):
        return command
    import typer

    def run(**given: Any) -> Any:
        return command(**given)

    def annotation(one: Any) -> Any:
        found = parameter_of(one)
        if found is None:
            return one
        return Annotated[get_args(one)[0], getattr(typer, found.kind)(*found.names, **found.details)]

    keywords = [one.replace(kind=one.KEYWORD_ONLY, annotation=annotation(one.annotation)) for one in parameters]
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in keywords}
    return run


def parameter_of(annotation: Any) -> Parameter | None:
    """What an annotation says to Typer, if it is one of those above."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((one for one in get_args(annotation)[1:] if isinstance(one, Parameter)), None)

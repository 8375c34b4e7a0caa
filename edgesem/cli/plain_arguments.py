"""Plain arguments of a command, read without Typer: what a unit file or a script says.

`--name value`, flags, and words for the arguments, all of plain types. Everything else is left to Typer: help, errors
and what is wrong, other forms such as `--name=value` or `-1`, and commands whose options are not those of
`edgesem.cli.lazy_typer`. A test holds that what is read here is what Typer reads.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from edgesem.cli.lazy_typer import parameter_of

_FORMS = {int: re.compile(r"[0-9]{1,18}"), float: re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")}
_KNOWN = {"help", "show_default", "metavar", "min", "max"}
"""Details of an option that change nothing of how it is read, but for its bounds."""


@dataclass(frozen=True)
class _Place:
    """A parameter and how words become its value."""

    name: str
    kind: type
    many: bool
    details: dict[str, Any]

    def value(self, word: str) -> Any:
        """ValueError for what is not plain."""
        form = _FORMS.get(self.kind)
        if not word or (form is not None and not form.fullmatch(word)):
            raise ValueError
        found = self.kind(word)
        if not self.details.get("min", found) <= found <= self.details.get("max", found):
            raise ValueError
        return found


def plain_arguments(command: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    """The value of each parameter that `words` name, and of the others their defaults; None where Typer must read."""
    options: dict[str, tuple[_Place, bool]] = {}
    arguments: list[_Place] = []
    found: dict[str, Any] = {}
    for one in inspect.signature(command, eval_str=True).parameters.values():
        said = parameter_of(one.annotation)
        if said is None or one.default is one.empty or not said.details.keys() <= _KNOWN:
            return None
        kind, many = _plain_type(get_args(one.annotation)[0])
        if kind is None or (kind is bool and (many or said.kind == "Argument")):
            return None
        place = _Place(one.name, kind, many, said.details)
        found[one.name] = one.default
        if said.kind == "Argument":
            arguments.append(place)
            continue
        usual = one.name.replace("_", "-")
        for name in said.names or (f"--{usual}",):
            if not re.fullmatch(r"--[a-z][a-z-]*", name):
                return None
            options[name] = place, True
        if kind is bool and not said.names:
            options[f"--no-{usual}"] = place, False
    try:
        return found | _read(words, options, arguments)
    except (ValueError, StopIteration):
        return None


def _read(words: Sequence[str], options: dict[str, tuple[_Place, bool]], arguments: list[_Place]) -> dict[str, Any]:
    """Values by parameter. ValueError, or StopIteration at the end, for words that are not plain."""
    found: dict[str, Any] = {}
    rest, free = iter(words), list(arguments)
    for word in rest:
        if not word.startswith("-") or word == "-":
            if not free:
                raise ValueError
            place = free[0]
            if not place.many:
                free.pop(0)
        elif word in options:
            place, on = options[word]
            if place.kind is bool:
                found[place.name] = on
                continue
            word = next(rest)
            if word.startswith("-") or (place.name in found and not place.many):
                raise ValueError
        else:
            raise ValueError
        value = place.value(word)
        found[place.name] = [*found.get(place.name, ()), value] if place.many else value
    return found


def _plain_type(annotation: Any) -> tuple[type | None, bool]:
    """The type of one value, and whether there may be several; None for a type that is not plain."""
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not NoneType]
    if get_origin(annotation) is list:
        kinds = [annotation]
    if len(kinds) != 1:
        return None, False
    many = get_origin(kinds[0]) is list
    kind = get_args(kinds[0])[0] if many else kinds[0]
    return (kind if kind in (str, int, float, bool, Path) else None), many

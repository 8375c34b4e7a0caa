"""Settings from a TOML file and from command-line options, as a frozen dataclass that the caller names.

A section of the file is a field whose type is another frozen dataclass. The bounds of a number, or the values that a
text may have, are given by `setting(...)`. An unknown key is an error that names the nearest known one: a misspelt
limit that was silently ignored would be found out months later.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edgesem.errors import InputError, UsageError

MAX_CONFIG_BYTES = 256 * 1024
_MAX_TEXT = 4096

T = TypeVar("T")


def setting(default: Any, *, low: float = -math.inf, high: float = math.inf, one_of: tuple[str, ...] = ()) -> Any:
    """A dataclass field with a default, and what its value must be."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "one_of": one_of})


def load_config(path: Path | None, kind: type[T], overrides: Mapping[str, Any] | None = None) -> T:
    """The settings in the TOML file `path` (the defaults, if it is None), with `overrides` in place of what it says.

    `overrides` has dotted keys, such as `broker.host`; one that is None changes nothing. Raises InputError if the file
    cannot be read, and UsageError, with file and key, for anything in it that does not fit `kind`.
    """
    tree = {} if path is None else read_toml(path)
    where = {key: str(path) for key in _paths(tree)} | {"": "command line" if path is None else str(path)}
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(tree, dotted, value)
            where[dotted] = "command line"
    return _build(tree, kind, "", where)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; InputError if it cannot be read, UsageError if it is not TOML."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]

    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise UsageError(f"{path} has more than {MAX_CONFIG_BYTES} bytes: this is no configuration")
    try:
        tree: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))  # with or without the mark of Windows' editors
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 from its byte {error.start + 1} on: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # what TOML and UTF-8 refuse, and nesting without end
        raise UsageError(f"{path} is not TOML: {error}") from error
    return tree


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            raise UsageError(f"{section} must be a section [{section}], not a value")
        tree = below
    tree[key] = value


def _build(tree: Mapping[str, Any], kind: type[T], prefix: str, where: Mapping[str, str]) -> T:
    """`kind` made of what `tree` says."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = prefix + key
        place = where.get(dotted, where[""])
        if key not in fields:
            raise UsageError(f"{place}: unknown key {_short(dotted)}{_nearest(key, fields, prefix)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UsageError(f"{place}: {dotted} must be a section [{dotted}], not {_short(value)}")
            values[key] = _build(value, hints[key], f"{dotted}.", where)
        else:
            try:
                values[key] = _convert(value, hints[key])
                _check(values[key], fields[key].metadata)
            except ValueError as error:
                raise UsageError(f"{place}: {dotted} {error}") from None
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where.get(prefix.rstrip('.'), where[''])}: {error}") from error


def _nearest(key: str, known: Mapping[str, Any], prefix: str) -> str:
    near = difflib.get_close_matches(key[:100], list(known), n=1, cutoff=0.5)
    return f": did you mean {prefix}{near[0]}?" if near else f": known here are {', '.join(sorted(known))}"


def _convert(value: Any, kind: Any) -> Any:
    """`value` as `kind`: bool, int, float, str, Path, tuple of them, or any of these or None; ValueError else."""
    if get_origin(kind) in (Union, types.UnionType):
        return None if value is None else _convert(value, next(arm for arm in get_args(kind) if arm is not type(None)))
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"must be a list, not {_short(value)}")
        return tuple(_convert(item, get_args(kind)[0]) for item in value)
    if kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # not NaN, nor a huge int
        return float(value)
    if kind is Path and isinstance(value, (str, Path)) and str(value) and "\0" not in str(value):
        return Path(value).expanduser()
    if kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}[kind]
    raise ValueError(f"must be {wanted}, not {_short(value)}")


def _check(value: Any, bounds: Mapping[str, Any]) -> None:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise ValueError(f"has {len(value)} characters, at most {_MAX_TEXT} may be")
    if not bounds or value is None:
        return
    if bounds["one_of"] and value not in bounds["one_of"]:
        raise ValueError(f"must be one of {', '.join(bounds['one_of'])}, not {_short(value)}")
    if isinstance(value, (int, float)) and not bounds["low"] <= value <= bounds["high"]:
        shown = f"{value:g}" if isinstance(value, float) else _short(value)  # an int may be more than a float can hold
        raise ValueError(f"is {shown}, must be {bounds['low']:g} to {bounds['high']:g}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

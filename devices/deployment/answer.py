"""Answers of a board's agent, checked: a board may be broken or hostile, and what it says is data.

Each step of `devices.onboard.main` answers with one JSON object. Texts from it are shown in terminals and become parts
of paths, so they are bounded, of the type that the step promises, and without control characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from devices.shell import printable

_MAX_DEPTH = 6
_MAX_ITEMS = 1000
_MAX_TEXT = 500


class BadAnswer(ValueError):
    """A board's answer is not what its step promises; the text says what."""


def parse_answer(line: bytes) -> dict[str, Any]:
    """The JSON object in a line of a board, without control characters. Raises BadAnswer for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadAnswer(f"unexpected words from the board: {printable(repr(line[:80]))}")
    plain = _plain(value, 0)
    for name, content in plain.items():
        check = _FIELDS.get(name)
        if check is not None and not check(content):
            raise BadAnswer(f"the board's answer makes no sense: {name} is {printable(repr(content), 60)}")
    return dict(plain)


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return printable(value, _MAX_TEXT)
    if isinstance(value, (dict, list)):
        if depth == _MAX_DEPTH or len(value) > _MAX_ITEMS:
            raise BadAnswer("the board's answer is nested too deeply, or too long")
        if isinstance(value, list):
            return [_plain(item, depth + 1) for item in value]
        return {printable(key, _MAX_TEXT): _plain(item, depth + 1) for key, item in value.items()}
    return value


def _word(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "step": _word(r"[^\n]{1,200}"),
    "error": lambda value: isinstance(value, str),
    "arch": _word(r"[A-Za-z0-9_.-]{1,32}"),
    "python": _word(r"\d{1,2}\.\d{1,3}"),
    "libc": _word(r"[A-Za-z0-9_. -]{0,32}"),
    "model": lambda value: isinstance(value, str),
    "free_bytes": lambda value: type(value) is int and value >= 0,
    "running": _text_or_none,
    "previous": _text_or_none,
    "on_probation": _text_or_none,
    "releases": _texts,
    "missing": _texts,
    "units": _texts_by_name,
    "sender": lambda value: isinstance(value, dict),
}
"""Fields of the answers -> whether a value is one; other fields are shown in JSON only."""

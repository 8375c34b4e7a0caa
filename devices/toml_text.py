"""Tables written as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgesem.errors import UsageError


def toml_text(tables: Mapping[str, Any], prefix: str = "") -> str:
    """`tables` as TOML: text, numbers, true, false, lists of these, and tables of them."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tables.items() if not isinstance(value, Mapping)]
    for key, value in tables.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{_key(key)}]", toml_text(value, f"{prefix}{_key(key)}.").rstrip("\n")]
    return "\n".join(lines).strip("\n") + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, (str, bool, int)):
        # JSON's text is TOML's too, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)  # nan and inf too
    raise UsageError(f"{value!r} cannot stand in a configuration: text, numbers, true, false and lists can")

"""Generator of the reference pages: the command line, every configuration key, and the public Python API.

MkDocs runs it as a hook (`mkdocs.yml`), so these pages cannot be out of date. Without MkDocs,
`python docs/generate_reference.py FOLDER` writes the same three Markdown files into a folder.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgesem.cli.main import GROUP

COMMANDS_WITH_FILE = {
    "send": ("runtime.daemon.send_settings", "SendSettings"),
    "receive": ("runtime.daemon.receive_settings", "ReceiveSettings"),
    "broker": ("runtime.daemon.broker_settings", "BrokerServiceSettings"),
}
"""Commands that take `--config FILE`, and the dataclass that the file is read into."""


def cli_page() -> str:
    """The page `reference/cli.md`: each command with its arguments and options, from the signatures themselves."""
    parts = [
        "# Command line\n",
        "Generated from the commands. Each one also prints this text with `--help`.\n",
        "Every command takes `--json` and then prints its result as JSON on standard output; the log and progress go "
        "to standard error.\n",
        "| exit code | meaning |\n|---|---|\n| 0 | done |\n| 1 | failed: bad input, or a check that does not hold |\n"
        "| 2 | wrong usage |\n| 3 | something is missing from the environment: an extra, a broker, a camera |\n"
        "| 4 | `send --once`: the deadline has passed, and something is left |\n| 130 | interrupted by Ctrl-C |\n",
    ]
    for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        parts.append(_command(entry.name.replace(".", " "), entry.load(), entry.extras))
    return "\n".join(parts)


def configuration_page() -> str:
    """The page `reference/configuration.md`: each key with type, default, bounds and meaning."""
    parts = [
        "# Configuration\n",
        "Generated from the settings that the commands read. `edgesem send`, `edgesem receive` and `edgesem broker` "
        "take `--config FILE`, a TOML file; a flag overrides the file. An unknown key is an error that names the "
        "nearest known key. Whole files stand in the guides: [sending](../guides/send.md), "
        "[receiving](../guides/receive.md).\n",
        "Environment variables: `EDGESEM_PASSWORD` and `EDGESEM_SEAL_KEY` replace the files of the same purpose. "
        "`EDGESEM_CACHE` is the folder of what can be made anew, such as TensorRT engines (default: `edgesem` in "
        "`$XDG_CACHE_HOME`, else `~/.cache/edgesem`). `EDGESEM_KERNEL=python` leaves the compiled kernel of the "
        "entropy coder unused.\n",
    ]
    for command, (module, name) in COMMANDS_WITH_FILE.items():
        kind = getattr(__import__(module, fromlist=[name]), name)
        parts.append(f"## `edgesem {command} --config`\n")
        for section, rows in sections(kind):
            title = f"[{section}]" if section else "top of the file"
            parts.append(f"### `{title}` of {command}\n" if section else f"### Top of the file of {command}\n")
            parts.append("| key | type | default | meaning |\n|---|---|---|---|")
            parts += [f"| `{key}` | {type_} | {default} | {text} |" for key, type_, default, text in rows]
            parts.append("")
    return "\n".join(parts)


def api_page() -> str:
    """The page `reference/api.md`: every public name of `edgesem` and `runtime`, rendered by mkdocstrings."""
    import edgesem
    import runtime

    parts = [
        "# Python API\n",
        "Public are the names below, which `edgesem` and `runtime` export; all else may change in any version. "
        "Examples stand in [getting started](../getting-started.md) and in the guides "
        "([sending](../guides/send.md), [receiving](../guides/receive.md)).\n",
    ]
    for package in (edgesem, runtime):
        parts.append(f"## `{package.__name__}`\n\n{inspect.cleandoc(package.__doc__ or '')}\n")
        for name in getattr(package, "__all__", ()):
            thing = getattr(package, name)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                parts.append(f"::: {thing.__module__}.{thing.__qualname__}\n")
            else:  # a type alias
                parts.append(f"### `{name}`\n\n`{str(thing).replace('typing.', '')}`\n")
    return "\n".join(parts)


PAGES = {"reference/cli.md": cli_page, "reference/configuration.md": configuration_page, "reference/api.md": api_page}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs hook: add the generated pages."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files


def sections(kind: Any, prefix: str = "") -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Each section of a settings dataclass with its rows (key, type, default, meaning), top level first."""
    hints, texts = get_type_hints(kind), _field_texts(kind)
    rows, below = [], []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            below.append((prefix + field.name, hint))
        else:
            rows.append((field.name, _type_text(hint, field.metadata), _default_text(field), texts.get(field.name, "")))
    if rows:
        yield prefix, rows
    for name, hint in below:
        yield from sections(hint, name)


def _field_texts(kind: Any) -> dict[str, str]:
    """The docstring below each field of a dataclass, and of those that it inherits from."""
    texts = {}
    for one in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(one):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, after in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                texts[field.target.id] = " ".join(str(ast.literal_eval(after.value)).split()).replace("|", "\\|")
    return texts


def _type_text(hint: Any, bounds: Any) -> str:
    if bounds.get("one_of"):
        return "one of " + ", ".join(f"`{value!r}`".replace("'", '"') for value in bounds["one_of"])
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arm for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is tuple:
        return "list of text"
    name = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}[hint]
    low, high = bounds.get("low"), bounds.get("high")
    if low is None or not (abs(low) < float("inf") or abs(high) < float("inf")):
        return name
    return f"{name}, {low:.12g} to {high:.12g}"


def _default_text(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if value is dataclasses.MISSING or value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{one}"' for one in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _command(name: str, run: Any, extras: Any) -> str:
    """One command: usage, text, example, tables of arguments and options."""
    import typer

    app = typer.Typer(add_completion=False)
    app.command()(run)
    command = typer.main.get_command(app)
    text, _, example = inspect.cleandoc(run.__doc__ or "").partition("Example:")
    parameters: list[Any] = command.params
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option" and one.name != "help"]
    usage = " ".join(["edgesem", name, *(_metavar(one) for one in arguments), "[OPTIONS]"])
    parts = [f"## edgesem {name}\n", f"    {usage}\n", _escaped(text.strip()) + "\n"]
    if extras:
        parts.append(f"Needs `pip install '.[{','.join(extras)}]'` in a checkout.\n")
    if example:
        parts.append("Example:\n\n```sh\n" + " ".join(example.replace("`", "").split()) + "\n```\n")
    if arguments:
        parts.append("| argument | default | |\n|---|---|---|")
        parts += [f"| `{_metavar(one)}` | {_shown(one)} | {_escaped(one.help or '')} |" for one in arguments]
        parts.append("")
    if options:
        parts.append("| option | default | |\n|---|---|---|")
        for one in options:
            flags = ", ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
            parts.append(f"| {flags} | {_shown(one)} | {_escaped(one.help or '')} |")
        parts.append("")
    return "\n".join(parts)


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper().rstrip("_"))


def _shown(parameter: Any) -> str:
    shown = parameter.show_default
    if isinstance(shown, str):
        return _escaped(shown)
    if parameter.required:
        return "required"
    if shown is False or parameter.default in (None, False, "", (), []) or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|") if "\n" not in text else text


def main() -> None:
    """Write the three pages into the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/generate_reference.py FOLDER")
    for name, page in PAGES.items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

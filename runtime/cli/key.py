"""The command `edgesem key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgesem.cli.console import emit
from runtime.cli.options import JsonOption


def key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File to make; it must not exist.")],
    json_: JsonOption = False,
) -> None:
    """Make a key file that seals (encrypts) a stream, or signs your bundles.

    To seal a stream, give the same file to its sender and its receivers, and to nobody else (--seal-key-file).
    To sign bundles (`edgesem export --sign`), make another one and keep it: others need only the public key that is
    printed, for `edgesem verify --trust`.

    Example: edgesem key seal.key
    """
    from edgesem.packet.keys import Identity, new_key

    new_key(path)
    result = {"file": path, "public_key": Identity.open(path).public_key.hex()}
    emit(result, json_, lambda r: f"{r['file']}: a new key, readable by you alone\npublic key: {r['public_key']}")

"""Options that several commands of `edgesem device` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
BundleOption = Annotated[Path | None, typer.Option(help="Bundle to bring.", show_default="the one that ships")]
WheelsOption = Annotated[
    list[Path] | None, typer.Option(help="A wheel to bring as it is, edgesem's own too; repeatable.")
]
CacheOption = Annotated[Path | None, typer.Option(help="Folder for wheels.", show_default="~/.cache/edgesem/wheels")]

"""Options that several commands of `edgesem device` share, and how boards are reached by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from devices.deployment.access import Access

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
BundleOption = Annotated[Path | None, typer.Option(help="Bundle to bring.", show_default="the one that ships")]
WheelsOption = Annotated[
    list[Path] | None, typer.Option(help="A wheel to bring as it is, edgesem's own too; repeatable.")
]
CacheOption = Annotated[Path | None, typer.Option(help="Folder for wheels.", show_default="~/.cache/edgesem/wheels")]

HOSTS = typer.Argument(metavar="HOST...", help="user@host, or an alias of your ssh configuration.")
GroupOption = Annotated[
    list[str] | None,
    typer.Option(help="Group of the inventory, repeatable: one after the other.", show_default="all at once"),
]
StopAfterOption = Annotated[
    int, typer.Option(min=1, help="With an inventory: begin no other board once so many have failed.")
]
HoldOption = Annotated[
    float, typer.Option(min=0, max=86_400, help="With an inventory: look again whether a board is well after this.")
]
AtOnceOption = Annotated[int, typer.Option(min=1, max=64, help="So many boards at the same time.")]
HealthOption = Annotated[float, typer.Option(min=1, max=3600, help="Seconds in which frames must be acknowledged.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of SSH.", show_default="ssh's")]
IdentityOption = Annotated[Path | None, typer.Option(help="Private key for SSH.", show_default="ssh's")]
SshConfigOption = Annotated[Path | None, typer.Option(help="File for ssh -F.", show_default="ssh's")]
PythonOption = Annotated[str, typer.Option(help="The interpreter to use on the board.")]
RootOption = Annotated[str, typer.Option(help="Where the board's file system begins; another folder is for trials.")]


def ssh_access(port: int | None, identity: Path | None, ssh_config: Path | None, python: str, root: str) -> Access:
    """How boards are reached; EnvironmentMissing without ssh."""
    import shutil

    from devices.deployment.access import Access
    from edgesem.errors import EnvironmentMissing

    if shutil.which("ssh") is None:
        raise EnvironmentMissing("ssh is not installed: apt-get install openssh-client")
    return Access(port=port, identity=identity, config=ssh_config, root=root, python=python)

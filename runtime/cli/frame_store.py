"""Where the commands `search` and `archive` find frames: the archive of one receiver, or the catalogue of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgesem.errors import UsageError

if TYPE_CHECKING:
    from runtime.catalogue.catalogue import Catalogue
    from runtime.receiver.archive import Archive

ArchiveOption = Annotated[
    Path | None, typer.Option(help="Folder that `edgesem receive` keeps packets in.", show_default="received")
]
CatalogueOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="In place of --archive: catalogue of several receivers, postgresql://USER@HOST/NAME.",
        show_default="none",
    ),
]
CataloguePasswordOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the catalogue's password, readable by you alone.", show_default="$EDGESEM_CATALOGUE_PASSWORD"
    ),
]
ObjectsOption = Annotated[
    str | None,
    typer.Option(help="Where the catalogue's packets are.", show_default="where the catalogue says"),
]
SinceOption = Annotated[
    str | None,
    typer.Option(help="From when on: 90s, 30min, 2h or 3d ago, or a date and time.", show_default="all there is"),
]
UntilOption = Annotated[str | None, typer.Option(help="Until when, in the same form.", show_default="now")]
OneStreamOption = Annotated[str | None, typer.Option(help="One stream, SITE/DEVICE/STREAM.", show_default="all")]
_ARCHIVE = Path("received")


def frame_store(
    archive: Path | None, catalogue: str | None, password_file: Path | None, objects: str | None
) -> Archive | Catalogue:
    """The frames that the options name, opened. Raises UsageError for both, and what opening raises."""
    from runtime.receiver.archive import Archive

    if catalogue is None:
        if password_file is not None or objects is not None:
            raise UsageError("--catalogue-password-file and --objects belong to --catalogue: name that too")
        return Archive(archive or _ARCHIVE, create=False)
    if archive is not None:
        raise UsageError("--archive is of one receiver, --catalogue of several: name one of them")
    from runtime.catalogue.catalogue import Catalogue

    return Catalogue.open(catalogue, password_file, objects or "")


def time_window(since: str | None, until: str | None) -> dict[str, float | None]:
    """The times of `--since` and `--until` as searches take them, `since_s` and `until_s` in Unix seconds.

    None where none was given; UsageError for what is no time.
    """
    from runtime.receiver.times import parse_time

    return {"since_s": parse_time(since) if since else None, "until_s": parse_time(until) if until else None}

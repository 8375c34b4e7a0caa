"""The command `edgesem bench search`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, progress, table
from runtime.cli.frame_store import CataloguePasswordOption
from runtime.cli.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType

_QUERIES = ("dog", "sports car", "church", "boat")


def bench_search(
    catalogue: Annotated[str, typer.Option(metavar="URL", help="An empty database: postgresql://USER@HOST/NAME.")],
    catalogue_password_file: CataloguePasswordOption = None,
    frames: Annotated[int, typer.Option(min=1000, max=20_000_000, help="Made-up frames.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Searches for each of the four words.")] = 5,
    bundle: BundleOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a search by words in a catalogue of made-up frames, with which it fills an empty database.

    Example: edgesem bench search --catalogue postgresql://edgesem@127.0.0.1/bench
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.semantics.embedding import Labels
    from runtime.bench.fleet.search import bench_search as measure
    from runtime.catalogue.catalogue import Catalogue
    from runtime.catalogue.database import Database

    labels = Labels.of(Bundle.open(bundle))
    database = Database(catalogue, catalogue_password_file)
    database.prepare()
    with Catalogue(database) as opened, progress("filling the catalogue") as bar:
        result = measure(opened, labels, _QUERIES, frames=frames, rounds=rounds, progress=bar.update)
    emit(result, json_, _render)


def _render(result: Mapping[str, Any]) -> RenderableType:
    rows = [
        (name.replace("_", " "), f"{taken['compared']:,}", f"{taken['p50']:.0f}", f"{taken['p95']:.0f}")
        for name, taken in result["ms"].items()
    ]
    title = (
        f"{result['frames']:,} frames of {result['cameras']:,} cameras, {result['searches']} searches of each kind; "
        f"one of all takes {result['cpu_ms']} ms of processors here; tables {result['tables_bytes'] / 1e6:,.0f} MB; "
        f"load {result['load']} on {result['cores']} cores"
    )
    return table(["search", "frames compared", "ms, p50", "p95"], rows, title)

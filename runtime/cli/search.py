"""The command `edgesem search`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgesem.cli.console import emit, log, progress, table
from edgesem.errors import EdgesemError, InputError
from runtime.cli.frame_store import (
    ArchiveOption,
    CatalogueOption,
    CataloguePasswordOption,
    ObjectsOption,
    OneStreamOption,
    SinceOption,
    UntilOption,
    frame_store,
    time_window,
)
from runtime.cli.options import BundlesOption, DecoderOption, JsonOption, StampOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runtime.receiver.archive_drawer import ArchiveDrawer
    from runtime.receiver.search import Hit


def search(
    text: Annotated[str, typer.Argument(help='What the pictures show, such as "red car".')],
    archive: ArchiveOption = None,
    catalogue: CatalogueOption = None,
    catalogue_password_file: CataloguePasswordOption = None,
    objects: ObjectsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    stream: OneStreamOption = None,
    most: Annotated[int, typer.Option("--top", min=1, max=10_000, help="Show at most N frames, best first.")] = 10,
    apart: Annotated[
        float, typer.Option(min=0, help="Of the frames within so many seconds, show only the best one.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Draw the frames found into this folder, as PNG.", show_default="not drawn")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, max=4, help="With --out: steps of the flow decoder.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="With --out: seed of the invented detail.")] = 0,
    realism: Annotated[
        float, typer.Option(min=0, max=1, help="With --out: how much detail the steps may invent.")
    ] = 1.0,
    decoder: DecoderOption = "auto",
    stamp: StampOption = "auto",
    bundle: BundlesOption = None,
    json_: JsonOption = False,
) -> None:
    """Find received frames by what they show, and draw them.

    Any text will do where a text encoder is installed (pip install '.[text]'); elsewhere it must name one of the
    bundle's labels. Frames that came without an embedding get one the first time that they are searched.

    Example: edgesem search "red car" --archive received --since 2h --out found
    """
    from edgesem.codec.codec import load
    from edgesem.semantics.embedding import Labels
    from runtime.receiver.archive import Archive
    from runtime.receiver.archive_drawer import ArchiveDrawer
    from runtime.receiver.search import complete, named
    from runtime.receiver.search import search as search_archive
    from runtime.receiver.synthesis import DecoderSize, SynthesisOptions

    window = time_window(since, until)
    opened_codecs = [load(folder) for folder in bundle or (None,)]
    synthesis = SynthesisOptions(steps, seed, realism, cast(DecoderSize, decoder))
    codecs = {codec.bundle.id: codec for codec in opened_codecs}
    labels = Labels.of(opened_codecs[0].bundle)
    query = labels.query(text)
    with frame_store(archive, catalogue, catalogue_password_file, objects) as opened:
        with progress("looking at frames without an embedding") as bar:
            looked = complete(opened, codecs, bar.update, stream=stream, **window)
        if isinstance(opened, Archive):
            hits, among = search_archive(opened, query, stream=stream, most=most, apart_s=apart, **window)
        else:
            from runtime.catalogue.search import search as search_catalogue

            hits, among = search_catalogue(opened, query, stream=stream, most=most, apart_s=apart, **window)
        rows: list[dict[str, Any]] = named(hits)
        if out is not None:
            drawer = ArchiveDrawer(opened, codecs, synthesis, stamp=stamp)
            for place, (hit, row) in enumerate(zip(hits, rows, strict=True), 1):
                _draw(drawer, hit, row, out, place)
    emit({"query": query.text, "among": among, "looked_at": looked, "hits": rows}, json_, _render)


def _draw(drawer: ArchiveDrawer, hit: Hit, row: dict[str, Any], out: Path, place: int) -> None:
    """Write the picture of a hit to `out`, and its path into the row; the reason where it cannot be drawn."""
    from edgesem.files import write_whole
    from edgesem.provenance import encode_with_provenance

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {out}: {error.strerror}") from error
    entry = hit.entry
    try:
        picture, provenance = drawer.draw(entry)
    except EdgesemError as error:  # of another bundle, or it refers to what is not kept: the others are drawn
        row["error"] = str(error)
        return
    path = out / f"{place:03d}-{entry.stream.replace('/', '_')}-{entry.epoch}-{entry.frame}.png"
    write_whole(path, encode_with_provenance(picture, "png", provenance))
    row["file"] = str(path)


def _render(result: Mapping[str, Any]) -> RenderableType:
    hits = result["hits"]
    for hit in hits:
        if "error" in hit:
            words = f"frame {hit['frame']} of {hit['stream']} cannot be drawn: {hit['error']}"
            log.print(words, style="yellow", markup=False)
    left = ["time", "stream", *(["file"] if any("file" in hit for hit in hits) else [])]
    names = [*left, "frame", "score", "size_bytes"]
    rows = []
    for hit in hits:
        shown = {**hit, "time": hit["time"][:19], "score": f"{hit['score']:.2f}"}  # to the second
        rows.append([shown.get(name) for name in names])
    title = f"{len(hits)} of {result['among']} frames for {result['query']!r}"
    return table([name.replace("_", " ") for name in names], rows, title, left=len(left))

"""The command `edgesem search`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import EdgesemError, InputError

if TYPE_CHECKING:
    from rich.table import Table


def search(
    text: Annotated[str, typer.Argument(help="What the pictures show.")],
    archive: Annotated[
        Path, typer.Option(help="Folder that edgesem receive --archive writes to.", show_default=False)
    ] = Path("received"),
    since: Annotated[
        str | None, typer.Option(help="90s, 30min, 2h, 3d ago, or a date and time.", show_default="all there is")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same.", show_default="now")] = None,
    stream: Annotated[str | None, typer.Option(help="SITE/DEVICE/STREAM.", show_default="all")] = None,
    most: Annotated[int, typer.Option("--top", min=1, max=10_000, help="At most so many frames.")] = 10,
    apart: Annotated[float, typer.Option(min=0, help="Of frames so near each other, the best one (seconds).")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Folder for their pictures.", show_default="not drawn")] = None,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of its noise.")] = 0,
    realism: Annotated[float, typer.Option(min=0, max=1, help="How much it may invent.")] = 1.0,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the senders.", show_default="ships")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Find received frames by what they show, and draw them.

    Any text will do where a text encoder is installed (pip install 'edgesem[text]'); elsewhere it must name something
    that the bundle has a label for. Frames that came without an embedding are looked at once, the first time.

    Example: edgesem search "red car" --archive received --since 2h --out found
    """
    from edgesem.codec.codec import load
    from edgesem.provenance import Drawn, encode_drawn
    from edgesem.semantics.embedding import Labels
    from runtime.receiver.archive import Archive
    from runtime.receiver.search import complete, latent_of, named, parse_time
    from runtime.receiver.search import search as find

    window = {"since_s": parse_time(since) if since else None, "until_s": parse_time(until) if until else None}
    codec = load(bundle)
    labels = Labels.of(codec.bundle)
    query = labels.query(text)
    with Archive(archive, create=False) as opened:
        looked = _completed(lambda show: complete(opened, codec, show))
        hits, among = find(opened, query, stream=stream, most=most, apart_s=apart, **window)
        rows: list[dict[str, Any]] = named(hits)
        for place, (hit, row) in enumerate(zip(hits, rows, strict=True)):
            if out is None:
                continue
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {out}: {error.strerror}") from error
            from edgesem.files import write_whole

            try:
                latent, packet = latent_of(opened, hit.entry, codec), opened.packet(hit.entry)
            except EdgesemError as error:  # of another bundle, or it refers to what is not kept: the others are drawn
                row["error"] = str(error)
                continue
            picture = codec.synthesize(latent, steps=steps, seed=seed, realism=realism)
            name = f"{place + 1:03d}-{hit.entry.stream.replace('/', '_')}-{hit.entry.epoch}-{hit.entry.frame}.png"
            drawn = Drawn.of(packet, codec.bundle, steps=steps, seed=seed, realism=realism)
            write_whole(out / name, encode_drawn(picture, "png", drawn))
            row["file"] = str(out / name)
    result = {"query": query.text, "among": among, "looked_at": looked, "hits": rows}
    emit(result, json_, _render)


def _completed(work: Any) -> int:
    from rich.progress import Progress

    with Progress(console=log, transient=True) as progress:
        task = progress.add_task("looking at frames without an embedding", total=1.0, visible=False)
        return int(work(lambda share: progress.update(task, completed=share, visible=True)))


def _render(result: Mapping[str, Any]) -> Table:
    from rich.table import Table

    title = f"{len(result['hits'])} of {result['among']} frames for {result['query']!r}"
    table = Table(title=title, title_justify="left")
    for name in ("time", "stream", "frame", "score", "size_bytes", "file"):
        if name != "file" or any("file" in row for row in result["hits"]):
            table.add_column(name.replace("_", " "), justify="right" if name in ("frame", "score") else "left")
    for row in result["hits"]:
        if "error" in row:
            log.print(f"frame {row['frame']} of {row['stream']} cannot be drawn: {row['error']}", style="yellow")
        cells = [row["time"], row["stream"], str(row["frame"]), f"{row['score']:.2f}", str(row["size_bytes"])]
        table.add_row(*cells, *([row["file"]] if "file" in row else []))
    return table

"""The commands `edgesem archive export` and `edgesem archive show`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgesem.cli.console import emit, log, progress, table
from edgesem.errors import EdgesemError, InputError, UsageError
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
    from runtime.receiver.archive_entry import Entry
    from runtime.receiver.sinks import VideoSink

KINDS = ("png", "jpg", "mkv")
_TOLD = 10


def export(
    out: Annotated[Path, typer.Option(help="Folder for the pictures or videos.", show_default=False)],
    archive: ArchiveOption = None,
    catalogue: CatalogueOption = None,
    catalogue_password_file: CataloguePasswordOption = None,
    objects: ObjectsOption = None,
    day: Annotated[
        str | None, typer.Option(help="One day of this time zone, such as 2026-11-22.", show_default="all there is")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    stream: OneStreamOption = None,
    promised: Annotated[bool, typer.Option("--promised", help="Only promised frames.")] = False,
    every: Annotated[
        str | None,
        typer.Option(help="Of each stream at most one frame in this time, such as 1min.", show_default=False),
    ] = None,
    kind: Annotated[
        str, typer.Option("--as", help="png or jpg: a file for each frame; mkv: a time-lapse video of each stream.")
    ] = "png",
    fps: Annotated[float, typer.Option(min=0.1, max=240, help="With --as mkv: frames shown in a second.")] = 25.0,
    stamp: StampOption = "auto",
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the invented detail.")] = 0,
    realism: Annotated[float, typer.Option(min=0, max=1, help="How much detail the steps may invent.")] = 1.0,
    decoder: DecoderOption = "auto",
    bundle: BundlesOption = None,
    json_: JsonOption = False,
) -> None:
    """Draw archived frames: to pictures, or to a time-lapse video.

    A frame that cannot be drawn, because what it refers to is not kept any more, is left out and told.

    Example: edgesem archive export --archive received --out day --since 1d --every 1min --stamp bar
    """
    from edgesem.codec.codec import load
    from runtime.receiver.archive_drawer import ArchiveDrawer, spaced
    from runtime.receiver.synthesis import DecoderSize, SynthesisOptions
    from runtime.receiver.times import parse_day, parse_span

    if kind not in KINDS:
        raise UsageError(f"--as {kind}: it is one of {', '.join(KINDS)}")
    if day and (since or until):
        raise UsageError("--day is a whole day: leave out --since and --until")
    since_s, until_s = parse_day(day) if day else time_window(since, until).values()
    every_s = parse_span(every, "--every") if every else 0.0
    synthesis = SynthesisOptions(steps, seed, realism, cast(DecoderSize, decoder))
    codecs = {codec.bundle.id: codec for codec in (load(folder) for folder in bundle or (None,))}
    with frame_store(archive, catalogue, catalogue_password_file, objects) as opened, _Writer(out, kind, fps) as writer:
        drawer = ArchiveDrawer(opened, codecs, synthesis, stamp=stamp)
        found = opened.entries(stream=stream, since_s=since_s, until_s=until_s)
        chosen = spaced([entry for entry in found if entry.promised or not promised], every_s)
        failures: list[str] = []
        with progress("drawing") as bar:
            for number, entry in enumerate(chosen, 1):
                reason = writer.write(drawer, entry)
                failures += [reason] if reason else []
                bar.update(number / len(chosen))
    if chosen and not writer.drawn:
        raise InputError(f"none of {len(chosen)} frames could be drawn: {failures[0]}")
    result = {"found": len(found), "drawn": writer.drawn, "failed": len(failures), "why": failures[:_TOLD]}
    emit({**result, "files": [str(file) for file in writer.files]}, json_, _render_export)


def show(
    archive: ArchiveOption = None,
    catalogue: CatalogueOption = None,
    catalogue_password_file: CataloguePasswordOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what an archive, or a catalogue, has of each stream.

    Example: edgesem archive show --archive received
    """
    from runtime.receiver.archive import Archive

    with frame_store(archive, catalogue, catalogue_password_file, None) as opened:
        rows = [
            {
                "stream": one.stream,
                "frames": one.frames,
                "promised": one.promised,
                "first": _time_text(one.first_s),
                "last": _time_text(one.last_s),
                "size_bytes": one.size_bytes,
            }
            for one in opened.streams()
        ]
        if isinstance(opened, Archive):
            about = {"archive": str(opened.path), "file_bytes": _file_bytes(opened.path)}
        else:
            about = {"catalogue": opened.database.shown, "file_bytes": opened.size_bytes}
        emit({**about, "streams": rows}, json_, _render)


class _Writer:
    """Writes pictures below `out`, as `SITE/DEVICE/STREAM/TIME-EPOCH-FRAME.png`, or videos `.../timelapse.mkv`.

    Use it as a context manager. What is left by an exception (a full disk, Ctrl-C) is whole: a video that was not
    finished is deleted.
    """

    def __init__(self, out: Path, kind: str, fps: float) -> None:
        self.drawn = 0
        self.files: dict[Path, None] = {}
        self._out, self._kind, self._fps = out, kind, fps
        self._videos: dict[str, VideoSink] = {}
        self._frames: dict[str, int] = {}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.ExitStack() as stack:  # all are closed, also where one fails
                for video in self._videos.values():
                    stack.callback(video.close)
        except BaseException:
            self._delete_videos()
            raise
        if error is not None:
            self._delete_videos()

    def write(self, drawer: ArchiveDrawer, entry: Entry) -> str:
        """Draw and write a frame; why it could not be drawn, or an empty text. InputError if the disk refuses it."""
        from edgesem.files import write_whole
        from edgesem.packet.capture_time import utc_text
        from runtime.protocol.topics import Topics, stream_folder
        from runtime.receiver.promised_store import FILE_MODE
        from runtime.receiver.sinks import VideoSink, encode_picture

        try:
            image, provenance = drawer.draw(entry)
        except EdgesemError as error:
            return str(error)
        home = stream_folder(self._out, Topics.named(entry.stream))
        if self._kind == "mkv":
            number = self._frames[entry.stream] = self._frames.get(entry.stream, -1) + 1
            video = self._videos.setdefault(entry.stream, VideoSink(home / "timelapse.mkv", longest_s=float("inf")))
            path = video.write(image, number / self._fps)
        else:
            time = utc_text(round(entry.captured_s * 1000)).replace("-", "").replace(":", "")
            path = home / f"{time}-{entry.epoch:05d}-{entry.frame:010d}.{self._kind}"
            try:
                home.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {home}: {error.strerror}") from error
            write_whole(path, encode_picture(image, self._kind, provenance), mode=FILE_MODE)
        self.files[path] = None
        self.drawn += 1
        return ""

    def _delete_videos(self) -> None:
        for path in {*self.files, *(video.file for video in self._videos.values())}:
            if path is not None and path.suffix == ".mkv":
                path.unlink(missing_ok=True)


def _file_bytes(path: Path) -> int:
    """Size of an archive on the disk, with what SQLite has not moved into the file itself yet."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def _time_text(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).astimezone().isoformat(timespec="seconds")


def _render_export(result: Mapping[str, Any]) -> RenderableType:
    for reason in result["why"]:
        log.print(f"left out: {reason}", style="yellow", markup=False)
    title = f"{result['drawn']} of {result['found']} frames drawn"
    if result["failed"]:
        title += f", {result['failed']} could not be"
    shown = result["files"][:_TOLD]
    more = len(result["files"]) - len(shown)
    return table(["file"], [[file] for file in shown] + ([[f"and {more} more"]] if more else []), title, left=1)


def _render(result: Mapping[str, Any]) -> RenderableType:
    names = ["stream", "first", "last", "frames", "promised", "size_bytes"]
    rows = [[row[name] for name in names] for row in result["streams"]]
    title = f"{result.get('archive') or result['catalogue']}, {result['file_bytes']:,} bytes"
    return table([name.replace("_", " ") for name in names], rows, title, left=3)

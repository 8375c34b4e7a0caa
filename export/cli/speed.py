"""Command `edgesem bench speed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgesem.cli.console import emit, progress, table
from export.cli.options import BundleOption, JsonOption, PrecisionOption, one_thread, parsed_size

_MEANING = {
    "encode_over_webp": ("times WebP, method 4", "to encode a picture to the budget"),
    "encode_over_avif_s6": ("times AVIF, speed 6", "the same"),
    "encode_over_avif_s9": ("times AVIF, speed 9", "the same"),
    "inter_over_key": ("times a keyframe", "a further frame of a still scene, as the sender does it"),
    "analyze_s": ("ms", "the encoder network"),
    "pack_s": ("ms", "the search for the quality, and entropy coding"),
    "trial_s": ("ms", "of that, to round it at one quality with the context model"),
    "code_s": ("ms", "of that, entropy coding"),
    "webp_s": ("ms", "WebP, method 4, once at the quality that fits"),
    "avif_s6_s": ("ms", "AVIF, speed 6, the same"),
    "avif_s9_s": ("ms", "AVIF, speed 9, the same"),
    "unpack_s": ("ms", "entropy decoding of one packet"),
    "draw_s": ("ms", "the base decoder"),
    "flow_step_s": ("ms", "one step of the flow decoder, beyond that"),
    "first_packet_cpu_s": ("ms", "edgesem send, from its start to the first packet published"),
    "sender_rss_bytes": ("MB", "memory of edgesem send"),
    "sender_private_bytes": ("MB", "of that, what is no other process's too"),
    "receiver_rss_bytes": ("MB", "memory of edgesem receive, without its decoders"),
    "receiver_many_rss_bytes": ("MB", "the same with 32 streams"),
    "decoder_rss_bytes": ("MB", "memory of each of its decoder processes"),
    "decoder_private_bytes": ("MB", "of that, what one more decoder takes"),
    "bare_python_rss_bytes": ("MB", "memory of Python alone"),
    "bare_libraries_rss_bytes": ("MB", "with NumPy and ONNX Runtime"),
    "bare_encoder_rss_bytes": ("MB", "with a codec that has analyzed one picture"),
    "bare_decoder_rss_bytes": ("MB", "with one that has drawn one picture"),
    "idle_cores": ("% of a core", "edgesem send between frames"),
    "idle_wakeups_hz": ("a second", "wake-ups of edgesem send between frames"),
    "install_bytes": ("MB", "edgesem and what it needs, on disk"),
}
_UNITS = {"ms": 1e3, "MB": 1e-6, "% of a core": 100}


def bench_speed(
    data: Annotated[Path, typer.Option(help="Folder of pictures.", show_default=False)],
    bytes_: Annotated[int, typer.Option("--bytes", min=1, help="Budget of a packet, in bytes.")] = 4000,
    size: Annotated[str, typer.Option(help="Size that pictures are cut and scaled to.")] = "768x512",
    pictures: Annotated[int, typer.Option(min=1, help="So many pictures, evenly from the folder.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds over all codecs, for each picture.")] = 5,
    stages_only: Annotated[
        bool, typer.Option("--stages-only", help="Leave out memory, disk and start of the daemons.")
    ] = False,
    bundle: BundleOption = None,
    precision: PrecisionOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Measure what a frame costs, beside WebP and AVIF at the same size, and what the daemons take of a machine.

    Processor time of one thread. All codecs take turns, and a ratio is the median of those of single rounds, so other
    work on the machine changes it little. docs/performance.md explains the figures.

    Example: edgesem bench speed --data photos
    """
    one_thread()
    from tempfile import TemporaryDirectory

    import edgesem
    from edgesem.codec.frames import MIN_SIDE
    from edgesem.files import find_pictures, write_picture
    from export.bench.speed.bare_memory import bare_memory
    from export.bench.speed.daemons import install_bytes, measure_daemons
    from export.bench.speed.frames import read_frames
    from export.bench.speed.stages import time_frames

    width, height = parsed_size(size, MIN_SIDE)
    frames = read_frames(find_pictures(data), pictures, width, height)
    with edgesem.load(bundle, precision=precision) as codec:
        with progress("timing", len(frames) * rounds) as bar:
            figures = time_frames(codec, frames, bytes_, rounds, bar.advance)
        figures = {"bundle": codec.bundle.digest, **figures}
    if not stages_only:
        with TemporaryDirectory() as folder, progress("running the daemons", None):
            shown = Path(folder) / "pictures"
            shown.mkdir()
            for number, frame in enumerate(frames):
                write_picture(frame, shown / f"{number}.png")
            figures |= measure_daemons(shown, Path(folder), bundle)
            figures |= bare_memory(width, height, bundle)
        figures["install_bytes"] = install_bytes()
    about = {"size": f"{width}x{height}", "budget_bytes": bytes_, "pictures": len(frames), "rounds": rounds}
    emit(about | figures, json_, _render)


def _render(result: Mapping[str, Any]) -> Table:
    rows = []
    for name, (unit, meaning) in _MEANING.items():
        value = result.get(name)
        if value is not None:
            rows.append(
                (meaning, f"{value * _UNITS.get(unit, 1):.{2 if unit.startswith(('times', '%')) else 1}f}", unit)
            )
    title = f"{result['pictures']} pictures of {result['size']} in {result['budget_bytes']} bytes, one thread"
    return table(["", "figure", "unit"], rows, title)

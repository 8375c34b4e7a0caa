"""Command `edgesem bench rd`."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from edgesem.cli.console import emit, log, progress
from edgesem.errors import UsageError
from export.cli.options import BundleOption, JsonOption, PrecisionOption, SizesOption, one_thread, result_folder

_STAGE_PICTURES, _STAGE_BPP = 3, 0.1  # on which each stage of coding is timed, all codecs in turn
_CODECS = "edgesem,edgesem+1step,svtav1-p4-iq,avif-s6,avif-s6-ssim,avif-s9,x265-slow,webp-m4,jpeg,jxl"


def bench_rd(
    data: Annotated[Path, typer.Option(help="Folder of pictures.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for rd.md, rd.json, rd.png and the cache.", show_default=False)],
    codecs: Annotated[
        str | None,
        typer.Option(
            help="Names with commas; also other avif-s (and -psnr, -ssimulacra2), svtav1-p, x265-, webp-m, jxl-e, "
            "edgesem+2step to +4step, vvc-faster to vvc-slower (seconds a picture), and avif-s6+flow: AVIF's picture "
            "redrawn by edgesem's flow decoder.",
            show_default=_CODECS,
        ),
    ] = None,
    sizes: SizesOption = "full,half,quarter",
    bundle: BundleOption = None,
    precision: PrecisionOption = "auto",
    lpips: Annotated[
        Path | None, typer.Option(help="Measure LPIPS too, with AlexNet's weights from this npz (needs torch).")
    ] = None,
    vgg: Annotated[
        Path | None,
        typer.Option(
            help="VGG16's weights (npz, safetensors, torch): measure in the manner of DISTS; LPIPS-VGG too, if LPIPS's "
            "linear weights are in it."
        ),
    ] = None,
    dists: Annotated[
        Path | None, typer.Option(help="With --vgg: measure DISTS itself, with its learned weights from this file.")
    ] = None,
    lpips_vgg: Annotated[
        Path | None, typer.Option(help="With --vgg: measure LPIPS-VGG, with its linear weights from this file.")
    ] = None,
    detector: Annotated[
        Path | None,
        typer.Option(help="An ONNX file of FastestDet's form: measure the distance of its features (needs torch)."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option("--pictures", min=1, help="So many pictures only, spread over the folder.", show_default="all"),
    ] = None,
    range_: Annotated[
        str, typer.Option("--range", help="Rates between which BD-rates are taken, in bits per pixel.")
    ] = "0.04-0.2",
    at: Annotated[str, typer.Option(help="Rates of the table, in bits per pixel.")] = "0.03,0.05,0.1,0.2,0.4",
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the pictures for BD-rate's intervals.")] = 300,
    readme: Annotated[
        Path | None,
        typer.Option(
            help="Also put the short table into this file, between the lines `<!-- bench rd -->` and `<!-- end -->`."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure quality; coding is timed alone.")] = 1,
    json_: JsonOption = False,
) -> None:
    """Code real files with edgesem and the codecs everybody has, and measure rate, quality and time.

    Measures that training did not see come first; `trained_on` names the others. docs/results/judges.md says what each
    measure and codec is, and where their weights come from.

    Example: edgesem bench rd --data photos --out rd --jobs 2
    """
    one_thread()
    import json

    from rich.markdown import Markdown

    from edgesem.files import find_pictures, write_whole
    from export.bench.rd import measure as rd
    from export.bench.rd import plot as rd_plot
    from export.bench.rd import readme as rd_readme
    from export.bench.rd import report as rd_report
    from export.bench.rd.codecs import choose
    from export.bench.rd.points import PointStore
    from export.bench.rd.stages import time_stages

    ends = _rates(range_, "--range")
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise UsageError(f"--range takes two rates, the lower first, such as 0.04-0.2, not {range_!r}")
    at_bpp = _rates(at, "--at")
    pictures = find_pictures(data)
    if first is not None:
        pictures = pictures[:: -(-len(pictures) // first)]
    chosen = choose(codecs, _CODECS, sizes, bundle, precision)
    measured = chosen.codecs
    if readme:
        rd_readme.around_section(readme, "bench rd")  # what it lacks is said before the hours of measuring
    for name, reason in chosen.left_out.items():
        log.print(Text(f"without {name}: {reason}", "yellow"), soft_wrap=True)
    metrics = rd.PictureMetrics.create(lpips, vgg, dists=dists, lpips_vgg=lpips_vgg, detector=detector)
    store = PointStore(result_folder(out) / "rd_cache.jsonl")
    with progress("coding and measuring", len(pictures) * sum(len(codec.settings) for codec in measured)) as bar:
        points = rd.measure(pictures, measured, store, metrics, jobs=jobs, done=bar.advance)
    stages = None
    if chosen.ours:
        some = pictures[:: -(-len(pictures) // _STAGE_PICTURES)]
        others = [codec for codec in measured if "edgesem" not in codec.version and codec.pack is None]
        others = [codec for codec in others if not codec.name.endswith(("-half", "-quarter"))]
        with progress("timing stages", len(some)) as bar:
            stages = time_stages(some, chosen.ours, others, _STAGE_BPP, done=bar.advance)
    with progress("resampling", resamples) as bar:
        summary = rd_report.summarize(
            points,
            range_bpp=(ends[0], ends[1]),
            at_bpp=at_bpp,
            resamples=resamples,
            done=bar.advance,
            trained_on=chosen.ours.trained_on if chosen.ours else (),
        )
    report: dict[str, Any] = {
        "data": data.resolve().name,
        "pictures": [path.name for path in pictures],
        "versions": {codec.name: codec.version for codec in measured},
        "measures": metrics.version,
        "left_out": chosen.left_out,
        "machine": {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()},
        **summary,
        "stages": stages,
    }
    text = rd_report.as_markdown(report)
    write_whole(out / "rd.md", f"{text}\n{rd_report.settings_as_markdown(report)}".encode())
    full = report | {"points": [point.flat() for point in points]}
    write_whole(out / "rd.json", json.dumps(full, indent=1).encode())
    rd_plot.plot(report, out / "rd.png")
    if readme:
        rd_readme.fill_section(readme, "bench rd", rd_readme.table(report))
    log.print(
        Text(f"{out / 'rd.md'}, {out / 'rd.json'} (with each picture's points), {out / 'rd.png'}"), soft_wrap=True
    )
    emit(report, json_, lambda _: Markdown(text))


def _rates(text: str, option: str) -> list[float]:
    """Rates in bits per pixel, as they stand in an option."""
    try:
        rates = [float(part) for part in text.replace("-", ",").split(",")]
    except ValueError as error:
        raise UsageError(f"{option} takes bits per pixel such as 0.04, not {text!r}") from error
    if not all(0 < rate < 100 for rate in rates):
        raise UsageError(f"{option} takes bits per pixel above 0, not {text!r}")
    return rates


def _processor() -> str:
    """The processor's name, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()

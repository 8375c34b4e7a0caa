"""The command `bench link`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

_CLIP_FRAMES = 8
_LONGEST_S = 3600.0


def bench_link(
    trace: Annotated[
        list[str],
        typer.Option(help="A Mahimahi or `time_s Mbit/s` trace file, or a rate such as 200kbit. May be repeated."),
    ],
    seconds: Annotated[float, typer.Option(min=5, max=_LONGEST_S, help="How long each run is.")] = 60,
    delay: Annotated[float, typer.Option(min=0, max=5000, help="Milliseconds each way.")] = 25,
    senders: Annotated[
        str, typer.Option(help="Which to compare, separated by commas.")
    ] = "edgesem,fixed,fixed_newest,aimd,whole,oracle",
    cc: Annotated[str, typer.Option(help="TCP congestion controls, separated by commas.")] = "cubic",
    starts: Annotated[str, typer.Option(help="Where in the trace to start, seconds, separated by commas.")] = "0",
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames a second that the camera takes.")] = 10,
    queue: Annotated[int, typer.Option(min=4, max=65536, help="Kilobytes that the link's queue holds.")] = 256,
    loss: Annotated[float, typer.Option(min=0, max=0.5, help="Share of packets lost by chance.")] = 0,
    promise_every: Annotated[int, typer.Option(min=0, help="Promise every N-th frame; 0: none.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Frames: a folder of pictures of one size, or a video.", show_default="a fixed camera on a photograph"
        ),
    ] = None,
    data_start: Annotated[float, typer.Option(min=0, help="Seconds of a video that are left out at its start.")] = 0,
    references: Annotated[
        bool, typer.Option("--references", help="Compare packets with and without references, in place of the senders.")
    ] = False,
    lose_acks: Annotated[
        float, typer.Option(min=0, max=1, help="With --references: share of acknowledgements that are lost.")
    ] = 0,
    prefer: Annotated[str, typer.Option(help="With --references: what gives way last, smooth or sharp.")] = "smooth",
    model: Annotated[
        bool, typer.Option("--model", help="In simulated time: half a second a run, for anybody; TCP is only sketched.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for a plot of each trace and report.json.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle to use.", show_default="ships")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Compare ways to decide how much to send when, over an emulated link.

    Real sender, receiver, broker (mosquitto) and TCP, in two network namespaces of the bench's own that a process joins
    as the trace says. All senders share everything but the control. So that the link is measured and not this
    machine, the frames are encoded once beforehand at 32 qualities with the real codec (cached in ~/.cache/edgesem),
    and quality is looked up in a table of real decodes. Needs root; otherwise it uses a relay, and says so.

    With --references sender and receiver encode and decode as the run goes, so give them time: --fps 2 or 5. Each frame
    is compared with what a decoder gives that has had every packet.

    With --model all but control, packets and figures is simulated: that is how the control's constants are searched.

    Example: edgesem bench link --trace 300kbit --seconds 30 --senders edgesem,fixed
    """
    import edgesem
    from edgesem.trace import load_trace
    from runtime.bench.link import references as both
    from runtime.bench.link.baselines import SENDERS
    from runtime.bench.link.bench import Options, Outcome, run_sender, why_relay
    from runtime.bench.link.clip import load_clip, load_images
    from runtime.bench.link.model import run_model

    if lose_acks and not references:
        raise UsageError("--lose-acks goes with --references: nobody else listens to what a receiver says")
    if prefer not in ("smooth", "sharp"):
        raise UsageError(f"--prefer {prefer}: write smooth or sharp")
    names = list(both.SENDERS) if references else _names(senders, SENDERS, "--senders")
    controls = _names(cc, _congestion_controls(), "--cc")
    offsets_s = _seconds(starts)
    traces = {source: load_trace(source) for source in trace}
    relay = "" if model else why_relay()
    if model and references:
        raise UsageError("--model and --references do not go together: references are encoded as the run goes")
    if relay:
        log.print(
            f"No namespaces here: {relay}. Using a relay on loopback at each trace's mean rate, without delay; "
            "outages and delays are not shown."
        )
    codec = edgesem.load(bundle)
    run: Callable[..., Outcome]
    if references:
        images = load_images(data, min(both.MOST_IMAGES, round(seconds * fps)), fps, data_start)
        run = partial(
            both.run_references, images=images, codec=codec, lose_acks=lose_acks, prefer=prefer, relay=bool(relay)
        )
    else:
        with _progress("encoding the frames once") as told:
            clip = load_clip(load_images(data, _CLIP_FRAMES, fps, data_start), codec, told)
        run = partial(run_model, clip=clip) if model else partial(run_sender, clip=clip, relay=bool(relay))
    report: dict[str, Any] = {}
    with _progress("bench") as told:
        done, total = 0, len(traces) * len(controls) * len(offsets_s) * len(names)
        for source, loaded in traces.items():
            series: dict[str, Any] = {}
            collected: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for congestion in controls:
                for offset_s in offsets_s:
                    options = Options(
                        trace=str(Path(source).resolve()) if Path(source).is_file() else source,  # ends live elsewhere
                        seconds=seconds,
                        fps=fps,
                        delay_s=delay / 1000,
                        offset_s=offset_s,
                        congestion=congestion,
                        queue_bytes=queue * 1024,
                        loss=loss,
                        promise_every=promise_every,
                    )
                    for name in names:
                        told(done, total)
                        outcome = run(name, trace=loaded, options=options)
                        collected[name].append({"cc": congestion, "start_s": offset_s, **outcome.figures})
                        series.setdefault(name, outcome.series)
                        done += 1
            told(done, total)
            report[loaded.name] = {name: {**_mean(runs), "runs": runs} for name, runs in collected.items()}
            if out is not None:
                _keep(out, loaded.name, series, report)
    link = "model" if model else "relay" if relay else "namespaces"
    about: dict[str, Any] = {"link": link, "seconds": seconds, "fps": fps, "delay_s": delay / 1000}
    # For one trace the senders stand at the top, as scripts expect them.
    result = next(iter(report.values())) if len(report) == 1 else report
    if references:
        about |= {"lose_acks": lose_acks, "prefer": prefer, "images": len(images)}
    emit({**result, "about": about}, json_, lambda _: (_render_references if references else _render)(report, about))


def _names(text: str, known: tuple[str, ...], option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"{option} {text}: {', '.join(unknown) or 'nothing'} is none of {', '.join(known)}")
    return names


def _congestion_controls() -> tuple[str, ...]:
    try:
        return tuple(Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text("ascii").split())
    except OSError:
        return ("cubic",)


def _seconds(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [-1.0]
    if not all(0 <= value <= 7200 for value in values):
        raise UsageError(f"--starts {text}: write seconds from 0 to 7200, such as 0,60,120")
    return values


def _mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over the runs that have it."""
    means: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs if isinstance(run[name], (int, float))]
        if name not in ("cc", "start_s"):
            means[name] = sum(values) / len(values) if values else None
    return means


def _keep(out: Path, name: str, series: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from edgesem.files import write_whole
    from runtime.bench.link.plot import draw

    out.mkdir(parents=True, exist_ok=True)
    if any(series.values()):
        draw(name, series, out / f"{Path(name).stem}.png")
    write_whole(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())


def _progress(what: str) -> Any:
    import contextlib

    @contextlib.contextmanager
    def bar() -> Any:
        from rich.progress import Progress

        with Progress(console=log, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return bar()


def _render(report: Mapping[str, Any], about: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    tables = []
    for trace, senders in report.items():
        table = Table(title=f"{trace}, {about['seconds']:.0f} s, {about['fps']:g} fps, {about['link']}")
        columns = ("sender", "usable", "base p50", "base p95", "last p95", "age p95", "MS-SSIM", "skipped", "lost")
        for column in columns:
            table.add_column(column, justify="left" if column == "sender" else "right")
        for name, figures in senders.items():
            table.add_row(
                name,
                f"{100 * figures['usable_share']:.1f} %",
                *(
                    "-" if figures[key] is None else f"{1000 * figures[key]:.0f} ms"
                    for key in ("base_delay_p50_s", "base_delay_p95_s", "last_delay_p95_s", "age_p95_s")
                ),
                f"{figures['quality']:.4f}",
                f"{figures['skipped']:.0f}",
                f"{figures['lost_promised']:.0f}",
            )
        tables.append(table)
    return Group(*tables)


def _render_references(report: Mapping[str, Any], about: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    tables = []
    for trace, senders in report.items():
        lost = f"{about['lose_acks']:.0%} of acknowledgements lost"
        title = f"{trace}, {about['seconds']:.0f} s, {about['fps']:g} fps, {about['link']}, {lost}"
        table = Table("", *senders, title=title)
        for column in table.columns[1:]:
            column.justify = "right"
        for key in next(iter(senders.values())):
            if key != "runs":
                values = [figures[key] for figures in senders.values()]
                table.add_row(key.replace("_", " "), *("-" if value is None else f"{value:.4g}" for value in values))
        tables.append(table)
    return Group(*tables)

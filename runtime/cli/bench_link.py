"""The command `edgesem bench link`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, progress, table
from edgesem.errors import UsageError
from runtime.cli.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from runtime.bench.link.bench import Outcome

_CLIP_FRAMES = 8
_LONGEST_S = 3600.0


def bench_link(
    trace: Annotated[
        list[str],
        typer.Option(help="Mahimahi or `time_s Mbit/s` trace file, or a rate such as 200kbit; may be repeated."),
    ],
    seconds: Annotated[float, typer.Option(min=5, max=_LONGEST_S, help="Length of each run, in seconds.")] = 60,
    delay: Annotated[float, typer.Option(min=0, max=5000, help="Delay of the link each way, in milliseconds.")] = 25,
    senders: Annotated[
        str,
        typer.Option(
            help="Senders to compare, separated by commas; with --peers edgesem, av1-p8, av1-p10-rtc, av1-p8-crf, "
            "av1-p4, av1-p4-crf.",
            show_default="all",
        ),
    ] = "",
    cc: Annotated[str, typer.Option(help="TCP congestion controls, separated by commas.")] = "cubic",
    starts: Annotated[
        str, typer.Option(help="Places in the trace to start at, in seconds, separated by commas.")
    ] = "0",
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames a second that the camera takes.")] = 10,
    queue: Annotated[int, typer.Option(min=4, max=65536, help="Queue of the link, in kilobytes.")] = 256,
    loss: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of packets lost by chance; with --peers: of tenths of a second in which receivers lose all.",
        ),
    ] = 0,
    promise_every: Annotated[int, typer.Option(min=0, help="Promise every N-th frame; 0: none.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Frames: a folder of pictures of one size, or a video.", show_default="a fixed camera on a photograph"
        ),
    ] = None,
    data_start: Annotated[float, typer.Option(min=0, help="Seconds of the video to leave out at its start.")] = 0,
    references: Annotated[
        bool,
        typer.Option("--references", help="Compare keyframes alone with inter frames, in place of the senders."),
    ] = False,
    lose_acks: Annotated[
        float, typer.Option(min=0, max=1, help="With --references: share of acknowledgements that are lost.")
    ] = 0,
    prefer: Annotated[
        str, typer.Option(help="With --references, on a thin link: smooth, or sharp (fewer frames).")
    ] = "smooth",
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Compare with senders of AV1 that follow the link, all coding as the run goes."),
    ] = False,
    late: Annotated[
        float | None,
        typer.Option(min=0, help="With --peers: when a second receiver comes, in seconds.", show_default="never"),
    ] = None,
    scale: Annotated[
        float, typer.Option(min=0.001, max=1000, help="With --model or --peers: factor on the rates of the traces.")
    ] = 1,
    model: Annotated[
        bool, typer.Option("--model", help="Run in simulated time: a second or two a run, without root.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for a plot of each trace and report.json.")] = None,
    bundle: BundleOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare ways to decide how much to send when, over an emulated link.

    Real sender, receiver, broker (mosquitto) and TCP, in two network namespaces that are joined as the trace says. All
    senders share everything but the rate control. The frames are encoded once beforehand, at 32 qualities with the real
    codec (cached in ~/.cache/edgesem), and quality is looked up in a table of real decodes: so the link is measured and
    not this machine. Needs root; without, it uses a relay and says so.

    With --references sender and receiver encode and decode as the run goes, so give them time: --fps 2 or 5. Each frame
    is compared with what a decoder gives that has had every packet.

    With --model the real sender runs in simulated time, over a model of TCP and broker.

    With --peers edgesem's sender and senders of AV1 (SVT-AV1 by PyAV, the extra video) code the same frames in
    simulated time, over the same model. quality is the MS-SSIM of what the viewer sees at each moment against what the
    camera sees at that moment. With --late, the last two figures are of the second receiver: how long it waits for its
    first picture, and what it sees from when it came.

    Example: edgesem bench link --trace 300kbit --seconds 30 --senders edgesem,fixed
    """
    import edgesem
    from edgesem.trace import load_trace
    from runtime.bench.link import inter_frames, live_model
    from runtime.bench.link.baselines import SENDERS
    from runtime.bench.link.bench import Options, run_sender, why_relay
    from runtime.bench.link.clip import load_clip, load_images
    from runtime.bench.link.model import run_model

    if lose_acks and not references:
        raise UsageError("--lose-acks goes with --references: nobody else listens to what a receiver says")
    if prefer not in ("smooth", "sharp"):
        raise UsageError(f"--prefer {prefer}: write smooth or sharp")
    if peers and (references or model):
        raise UsageError("--peers goes with neither --references nor --model: it runs in simulated time by itself")
    if late is not None and not peers:
        raise UsageError("--late goes with --peers: nobody else has a second receiver")
    if scale != 1 and not (peers or model):
        raise UsageError("--scale goes with --model or --peers: without, a trace is taken as it is")
    known = tuple(inter_frames.SENDERS) if references else tuple(live_model.SENDERS) if peers else SENDERS
    names = _names(senders or ",".join(known), known, "--senders")
    controls = _names(cc, _congestion_controls(), "--cc")
    offsets_s = _seconds(starts)
    traces = {source: load_trace(source).scaled(scale) for source in trace}
    if model and references:
        raise UsageError("--model and --references do not go together: references are encoded as the run goes")
    relay = "" if model or peers else why_relay()
    if relay:
        log.print(
            f"No namespaces here: {relay}. Using a relay on loopback at each trace's mean rate, without delay; "
            "outages and delays are not shown.",
            markup=False,
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    codec = edgesem.load(bundle)
    link = "model" if model or peers else "relay" if relay else "namespaces"
    about: dict[str, Any] = {"link": link, "seconds": seconds, "fps": fps, "delay_s": delay / 1000, "scale": scale}
    run: Callable[..., Outcome]
    if references:
        images = load_images(data, min(inter_frames.MAX_IMAGES, round(seconds * fps)), fps, data_start)
        about |= {"lose_acks": lose_acks, "prefer": prefer, "images": len(images)}
        run = partial(
            inter_frames.run_inter_frames,
            images=images,
            codec=codec,
            lose_acks=lose_acks,
            prefer=prefer,
            relay=bool(relay),
        )
    elif peers:
        count = min(live_model.MAX_IMAGES, round(seconds * fps * live_model.PHASES))
        images = load_images(data, count, fps * live_model.PHASES, data_start)
        about |= {"images": len(images), "phases": live_model.PHASES, "loss": loss, "late_s": late}
        run = partial(live_model.run_live, images=images, codec=codec)
    else:
        with progress("encoding the frames once", None) as bar:
            clip = load_clip(load_images(data, _CLIP_FRAMES, fps, data_start), codec, bar.update)
        run = partial(run_model, clip=clip) if model else partial(run_sender, clip=clip, relay=bool(relay))
    report: dict[str, Any] = {}
    with progress("bench", len(traces) * len(controls) * len(offsets_s) * len(names)) as bar:
        for source, loaded in traces.items():
            series: dict[str, Any] = {}
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for congestion, offset_s, name in product(controls, offsets_s, names):
                options = Options(
                    trace=str(Path(source).resolve()) if Path(source).is_file() else source,  # for other folders
                    seconds=seconds,
                    fps=fps,
                    delay_s=delay / 1000,
                    offset_s=offset_s,
                    congestion=congestion,
                    queue_bytes=queue * 1024,
                    loss=loss,
                    promise_every=promise_every,
                    late_s=late,
                )
                outcome = run(name, trace=loaded, options=options)
                runs[name].append({"cc": congestion, "start_s": offset_s, **outcome.figures})
                series.setdefault(name, outcome.series)
                bar.advance()
            report[loaded.name] = {name: {**_mean(figures), "runs": figures} for name, figures in runs.items()}
            if out is not None:
                _write(out, loaded.name, series, report)
    # For one trace the senders stand at the top, as scripts expect them.
    result = next(iter(report.values())) if len(report) == 1 else report
    render = _render_inter_frames if references else _render_peers if peers else _render_senders
    emit({**result, "about": about}, json_, lambda _: _render(report, about, render))


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


def _write(out: Path, name: str, series: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from edgesem.files import write_whole
    from runtime.bench.link.plot import draw

    if any(series.values()):
        draw(name, series, out / f"{Path(name).stem}.png")
    write_whole(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())


def _render(
    report: Mapping[str, Any], about: Mapping[str, Any], render: Callable[[Mapping[str, Any], str], Table]
) -> RenderableType:
    from rich.console import Group

    lost = f", {about['lose_acks']:.0%} of acknowledgements lost" if "lose_acks" in about else ""
    lost = f", {about['loss']:.0%} of the time lost" if about.get("loss") else lost
    scaled = "" if about.get("scale", 1) == 1 else f", rates times {about['scale']:g}"
    what = f"{about['seconds']:.0f} s, {about['fps']:g} fps, {about['link']}{lost}{scaled}"
    return Group(*(render(senders, f"{trace}, {what}") for trace, senders in report.items()))


def _render_senders(senders: Mapping[str, Any], title: str) -> Table:
    columns = ["sender", "usable", "p50 ms", "p95 ms", "last p95", "age p95", "MS-SSIM", "skipped"]
    promised = any(figures["promised"] for figures in senders.values())
    rows = []
    for name, figures in senders.items():
        keys = ("base_delay_p50_s", "base_delay_p95_s", "last_delay_p95_s", "age_p95_s")
        delays = ("-" if figures[key] is None else f"{1000 * figures[key]:.0f}" for key in keys)
        row = [name, f"{100 * figures['usable_share']:.1f} %", *delays, f"{figures['quality']:.4f}"]
        counts = [figures["skipped"], *([figures["lost_promised"]] if promised else [])]
        rows.append([*row, *(f"{count:.0f}" for count in counts)])
    return table([*columns, *(["lost"] if promised else [])], rows, f"{title}; delays in ms")


def _render_peers(senders: Mapping[str, Any], title: str) -> Table:
    columns = ["sender", "MS-SSIM shown", "age p50 s", "age p95 s", "KB/s", "shown", "skipped", "keyframes", "CPU ms"]
    late = any("late_quality" in figures for figures in senders.values())
    rows = []
    for name, figures in senders.items():
        ages = ("-" if figures[key] is None else f"{figures[key]:.2f}" for key in ("age_p50_s", "age_p95_s"))
        counts = (f"{figures[key]:.0f}" for key in ("shown", "skipped", "keyframes"))
        cpu_s = figures["encode_cpu_s"]
        cells = [
            *ages,
            f"{figures['bytes_per_s'] / 1000:.1f}",
            *counts,
            "-" if cpu_s is None else f"{1000 * cpu_s:.0f}",
        ]
        if late:
            first_s = figures["late_first_s"]
            cells += ["-" if first_s is None else f"{first_s:.2f}", f"{figures['late_quality']:.4f}"]
        rows.append([name, f"{figures['quality']:.4f}", *cells])
    return table([*columns, *(["late: first s", "late: shown"] if late else [])], rows, title)


def _render_inter_frames(senders: Mapping[str, Any], title: str) -> Table:
    rows = []
    for key in next(iter(senders.values())):
        if key != "runs":
            values = [figures[key] for figures in senders.values()]
            rows.append((key.replace("_", " "), *("-" if value is None else f"{value:.4g}" for value in values)))
    return table(("", *senders), rows, title)

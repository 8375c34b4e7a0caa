"""The command `edgesem profile`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgesem.cli.console import emit, log, table
from edgesem.errors import InputError, UsageError
from runtime.cli.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgesem.bundle.runner import Precision, Runtime


def profile(
    seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="Seconds to measure, half as a sender and half as a receiver.")
    ] = 60,
    source: Annotated[
        str | None,
        typer.Option(
            help="Folder of pictures, or a camera: /dev/videoN, picamera, csi.", show_default="photographs that ship"
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="Size that every frame is brought to, in pixels.")] = "768x512",
    quality: Annotated[float, typer.Option(min=0, max=1, help="Quality of the packets, 0 to 1.")] = 0.5,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of ONNX Runtime and AVIF.")] = 1,
    precision: Annotated[str, typer.Option(help="Precision of the networks: auto, fp32 or int8.")] = "auto",
    runner: Annotated[
        str, typer.Option(help="What runs the networks: auto, cpu, cuda, ort-tensorrt or tensorrt.")
    ] = "auto",
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure JPEG, WebP and AVIF too; takes 3 times as long.")
    ] = False,
    joule_per_byte: Annotated[
        float | None, typer.Option(min=0, help="With --compare: energy that the radio takes for a byte, in joules.")
    ] = None,
    meter: Annotated[
        str | None,
        typer.Option(
            help="Power meter by its name, csv:FILE (columns t_s,power_w), or none.", show_default="one that works"
        ),
    ] = None,
    idle: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds of idling before and after, if there is a meter.")
    ] = 10,
    operators: Annotated[bool, typer.Option("--operators", help="Time each operator of the networks too.")] = False,
    predict: Annotated[
        str | None,
        typer.Option(metavar="BOARD", help="Measure nothing, but project to another board, such as raspberry-pi-4."),
    ] = None,
    bundle: BundleOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Draw latency, power and energy into this PNG file; needs matplotlib.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Measure what each stage of coding takes on this board: time, memory and, with a power sensor, energy.

    Without a power sensor energy is null: it is never estimated. --predict measures nothing here, but counts what a
    frame needs and projects that to another board, with an error band.

    Example: edgesem profile --seconds 60 --compare
    """
    from runtime.profile import chart
    from runtime.profile import predict as prediction
    from runtime.profile.run import Settings
    from runtime.profile.run import profile as measure

    if joule_per_byte is not None and not compare:
        raise UsageError("--joule-per-byte adds the radio to --compare: name both")
    if predict is not None:
        if compare or operators or out or meter:
            raise UsageError("--predict goes with --size, --threads, --quality and --bundle only: nothing is measured")
        emit(prediction.predict(predict, size, threads, quality, bundle), json_, _render_prediction)
        return
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: the chart is a PNG, name it so")
        if not out.absolute().parent.is_dir():
            raise InputError(f"--out {out}: there is no folder {out.absolute().parent}")
        chart.need()
    settings = Settings(
        seconds=seconds,
        source=source,
        size=size,
        quality=quality,
        threads=threads,
        precision=cast("Precision", precision),  # whatever it is not, choosing a runner refuses
        runtime=cast("Runtime", runner),
        bundle=bundle,
        meter=meter,
        idle_s=idle,
        compare=compare,
        operators=operators,
        joule_per_byte=joule_per_byte,
    )
    with log.status("loading") as status:

        def show(what: str) -> None:
            status.update(what)
            if not log.is_terminal:
                log.print(what)

        result = measure(settings, show)
    if out is not None:
        from edgesem.files import write_whole

        write_whole(out, chart.draw(result))
        result["chart"] = str(out)
    emit(result, json_, _render)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.1f}"


def _joules(joules: float | None) -> str:
    return "-" if joules is None else f"{joules:.4g}"


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    board, engine, settings = result["board"], result["engine"], result["settings"]
    title = (
        f"{board['model']}: {settings['size']}, quality {settings['quality']:g}, {settings['threads']} thread(s), "
        f"{engine['runner']} {engine['version']} {engine['precision']}"
    )
    rows = []
    for name, stage in result["stages"].items():
        rows.append((name, *(_ms(stage[key]) for key in ("p50_s", "p95_s", "p99_s", "first_s")), stage["frames"]))
    parts: list[RenderableType] = [table(("stage", "p50 ms", "p95 ms", "p99 ms", "first ms", "frames"), rows, title)]
    if result["send"]["broker"] is None:
        parts.append(Text(f"send was not measured: {result['send']['reason']}"))
    memory = result["peak_memory_bytes"]
    parts.append(
        Text(
            f"a frame takes the sender {_ms(result['frame']['sender_p50_s'])} ms and the receiver "
            f"{_ms(result['frame']['receiver_p50_s'])} ms, {result['frame']['bytes_per_frame']:.0f} bytes on the wire; "
            f"peak memory {memory / 1e6:.0f} MB"
            if memory
            else ""
        )
    )
    parts.append(Text(_steady_text(result)))
    parts.append(_energy_text(result))
    if guess := result["input_estimate"]:
        parts.append(Text(f"an estimate of the whole board: {guess['sender_w']:.2f} W sending ({guess['by']})"))
    if result["codecs"]:
        parts.append(_codec_table(result["codecs"]))
    for part, lines in (result.get("operators") or {}).items():
        parts.append(_operator_table(part, lines))
    if "chart" in result:
        parts.append(Text(f"look at {result['chart']}"))
    return Group(*parts)


def _steady_text(result: Mapping[str, Any]) -> str:
    parts = []
    for side, steady in result["steady"].items():
        if steady["reached"] is None:
            parts.append(f"{side}: too short to tell")
        elif steady["reached"]:
            parts.append(f"{side}: from {steady['after_s']:.0f} s on, by {steady['by']}")
        else:
            parts.append(f"{side}: not reached, measure longer")
    throttle = result["throttle"]
    if throttle is not None and not throttle["valid"]:
        parts.append(f"THROTTLED ({', '.join(throttle['now'] + throttle['during'])}): this run is not valid")
    return "steady state: " + "; ".join(parts)


def _energy_text(result: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    energy = result["energy"]
    if energy is None:
        return Text(f"energy: not measured ({result['energy_reason']})")
    title = f"energy: {energy['meter']}, scope {energy['scope']}" + ("" if energy["calibrated"] else ", uncalibrated")
    keys = ("gross_j", "net_j", "gross_j_per_frame", "net_j_per_frame", "mean_w")
    rows = []
    for phase in ("sender", "receiver"):
        account = energy[phase]
        rows.append((phase, *(_joules(account[key]) for key in keys), f"{account['coverage']:.1%}"))
    return table(("phase", "gross J", "net J", "J/frame gross", "net", "W", "observed"), rows, title)


def _codec_table(codecs: Mapping[str, Any]) -> Table:
    rows = []
    for name, points in codecs.items():
        for point in points:
            keys = ("gross_j_per_frame", "net_j_per_frame", "net_with_radio_j_per_frame")
            row = (f"{point['setting']:g}", _ms(point["encode_p50_s"]), f"{point['bytes_per_frame']:.0f}")
            rows.append((name, *row, f"{point['ms_ssim']:.4f}", *(_joules(point[key]) for key in keys)))
    columns = ("codec", "setting", "encode ms", "bytes", "MS-SSIM", "J gross", "J net", "+ radio")
    return table(columns, rows, "encoding, with the same threads and meter")


def _operator_table(part: str, lines: list[Mapping[str, Any]]) -> Table:
    rows = []
    for line in lines[:10]:
        speed = line["gmac_per_s"]
        time = (f"{1e3 * line['seconds']:.2f}", f"{line['share']:.0%}", f"{speed:.1f}" if speed else "")
        rows.append((line["name"], line["op"], *time))
    title = f"{part}: the ten slowest of {len(lines)} nodes"
    return table(("node", "operator", "ms", "share", "GMAC/s"), rows, title, left=2)


def _render_prediction(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    rows = []
    for name, stage in result["stages"].items():
        rows.append((name, *(_ms(stage[key]) for key in ("projected_s", "low_s", "high_s")), stage["by"]))
    title = f"PROJECTION to {result['board']}, {result['size']}, {result['threads']} thread(s): not measured"
    view = table(("stage", "ms", "from", "to", "by"), rows, title)
    return Group(view, *(Text(line) for line in result["notes"]))

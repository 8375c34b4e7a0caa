"""Command `edgesem bench video`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, plain_json, progress
from edgesem.errors import UsageError
from edgesem.files import write_whole
from export.cli.options import BundleOption, JsonOption, result_folder

if TYPE_CHECKING:
    from edgesem.quality.metrics import Frame

_LEAST_HZ, _MOST_HZ = 0.01, 240.0
_QUICK = (
    "edgesem-intra,edgesem-reference,svtav1-p8,svtav1-p10-rtc,aom-rt8,x265-medium,x264-veryfast,x264-veryfast-qp,"
    "avif-s8"
)


def bench_video(
    data: Annotated[Path, typer.Option(help="Clip, or folder of clips.")],
    out: Annotated[Path, typer.Option(help="Folder for video.json and video.png.")],
    fps: Annotated[str, typer.Option(help="Frame rates, with commas.")] = "1,5,10",
    codecs: Annotated[
        str | None,
        typer.Option(
            help="Codecs, with commas; also other presets, as x264-ultrafast or svtav1-p6; none: no codec.",
            show_default=f"{_QUICK}, as far as they are there",
        ),
    ] = None,
    bundle: BundleOption = None,
    start: Annotated[float, typer.Option(min=0, max=1, help="Where in each clip to begin, in 0..1 of its time.")] = 0.0,
    frames: Annotated[int, typer.Option(min=2, help="Frames of each clip, at most.")] = 30,
    key_interval: Annotated[float, typer.Option(min=0.1, help="Seconds from one keyframe to the next.")] = 60.0,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder that draw ours.")] = 0,
    probe: Annotated[
        str,
        typer.Option(help="Look closely at inter frames, flicker at these steps, as 0,1,4.", show_default="no"),
    ] = "",
    where: Annotated[
        bool, typer.Option("--where", help="Find out where the bytes of inter frames go, on scenes of known change.")
    ] = False,
    vgg: Annotated[
        Path | None, typer.Option(help="VGG16's weights: judge pictures in the manner of DISTS too (needs torch).")
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(help="AlexNet's LPIPS weights: judge pictures by LPIPS too (needs torch).")
    ] = None,
    middle: Annotated[int, typer.Option(min=0, help="Pixels a side of the middle that is taken; 0: all.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Bytes a frame against quality on clips: edgesem with and without references beside the codecs that others use.

    All take turns frame by frame, without delay, on one thread, with the same frame rate and key interval.
    `flicker_times` is how much still parts move over time in what a receiver sees, times what they do in the clip, and
    `flicker_change_times` how much they change from each frame to the next. `still` is what a frame costs over its
    keyframe that is identical to the one before, or differs by the noise of a sensor. `missing` says why a codec is not
    there. `trained_on` names the judges that training of the bundle saw, `untrained` those that it did not; GMSD (0 is
    perfect) is one of them.
    `share_of_encode_time` is the processor time of an inter frame over that of each other codec.

    --probe adds, for each clip and rate, the sender's time for an inter frame over that for a keyframe, how quality
    climbs with each, what the same frame costs again, what a mask of unchanged positions could save, and flicker.
    --where books the bits of inter frames by group of channels, by changed and unchanged area, and by cause, for an
    identical frame, noise, a change of light and an object that moves, and tells what motion and a running mean save
    (docs/results/inter-frame-bytes.md). With either, --codecs none leaves all else out.

    Example: edgesem bench video --data clip.mp4 --fps 1,5 --out results
    """
    import edgesem
    from edgesem.video import find_videos
    from export.bench.video import measure
    from export.bench.video.plot import plot
    from export.bench.video.probe import probe as look_closely
    from export.bench.video.report import report as measured
    from export.bench.video.where import where as book
    from export.cli.video_tables import tables
    from export.data.clips import read_clip

    names, missing = _names(codecs)
    flow_steps = _steps(probe)
    rates = _rates(fps)
    judges = _judges(vgg, lpips)
    codec = edgesem.load(bundle)
    if ("edgesem-reference" in names or flow_steps or where) and not codec.has_reference:
        raise UsageError("this bundle has no references: export one with --reference, or leave edgesem-reference out")
    paths = find_videos(data)
    clips = {
        (path.name, rate): read_clip(path, rate_hz=rate, start=start, most=frames) for rate in rates for path in paths
    }
    if middle:
        clips = {name: ([_middle(frame, middle) for frame in found], real) for name, (found, real) in clips.items()}
    folder = result_folder(out)  # what it lacks is said before the minutes of measuring
    report: dict[str, Any] = {
        "steps": steps,
        "clips": [path.name for path in paths],
        "fps": rates,
        "key_interval_s": key_interval,
        "missing": missing,
    }
    with progress("coding clips", len(clips) * sum(measure.settings_of(name) for name in names)) as bar:
        report |= measured(
            names, codec, clips, key_interval_s=key_interval, steps=steps, judges=judges, done=bar.advance
        )
    if where:
        report["where"] = {}
        with progress("booking bits", 5 * len(paths)) as bar:
            for path in paths:
                report["where"][path.name] = book(codec, clips[path.name, rates[0]][0], bar.advance)
    if flow_steps:
        report["probe"] = {}
        with progress("looking closely", len(clips)) as bar:
            for (name, rate), (pictures, _) in clips.items():
                report["probe"].setdefault(name, {})[f"{rate:g}"] = look_closely(codec, pictures, flow_steps)
                bar.advance()
    report = plain_json(report)
    write_whole(folder / "video.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    if names:
        plot(report, folder / "video.png")
    emit(report, json_, tables)


def _names(codecs: str | None) -> tuple[list[str], dict[str, str]]:
    """The codecs of a list, or those of the default one that can be had here, and why others of it cannot.

    Raises UsageError for what a list names and cannot be had.
    """
    from export.bench.video import peers
    from export.bench.video.measure import OURS

    asked = [] if codecs == "none" else (codecs or _QUICK).split(",")
    names = dict.fromkeys(name.strip() for name in asked)
    there: list[str] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            if name not in OURS:
                peers.check(name)
            there.append(name)
        except UsageError as error:
            if codecs is not None:
                raise
            missing[name] = str(error)
            log.print(f"without {name}: {error}", soft_wrap=True, markup=False)
    return there, missing


def _judges(vgg: Path | None, lpips: Path | None) -> dict[str, Callable[[Frame, Frame], float]]:
    """Measures by networks whose weights the user has, by name."""
    judges: dict[str, Callable[[Frame, Frame], float]] = {}
    if vgg:
        from export.metrics.dists import DistsLike

        judges["dists_like"] = DistsLike(vgg)
    if lpips:
        from export.metrics.lpips import Lpips

        judges["lpips"] = Lpips(lpips)
    return judges


def _rates(fps: str) -> list[float]:
    try:
        rates = [float(part) for part in fps.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(_LEAST_HZ <= rate <= _MOST_HZ for rate in rates):
        raise UsageError(
            f"--fps takes frame rates from {_LEAST_HZ:g} to {_MOST_HZ:g} with commas, such as 1,5,10, not {fps!r}"
        )
    return rates


def _steps(text: str) -> list[int]:
    """The numbers in a list such as 0,1,4; none in an empty one."""
    try:
        steps = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        steps = [-1]
    if any(not 0 <= step <= 4 for step in steps):
        raise UsageError(f"--probe takes steps of the flow decoder with commas, such as 0,1,4, not {text!r}")
    return steps


def _middle(frame: Frame, side: int) -> Frame:
    """The middle of a frame, `side` pixels a side or less."""
    height, width = frame.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return frame[top : top + side, left : left + side].copy()

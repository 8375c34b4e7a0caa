"""Command `edgesem measure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from edgesem.cli.console import emit, log, progress, table
from edgesem.errors import UsageError
from export.cli.options import BundleOption, JsonOption, SizesOption, one_thread, result_folder

if TYPE_CHECKING:
    from rich.console import RenderableType

_CODECS = "edgesem,avif-s6,webp-m4,jpeg"


def measure(
    data: Annotated[Path, typer.Option(help="Folder of pictures.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for measure.json, measure.png and the cache.", show_default=False)],
    classifier: Annotated[Path | None, typer.Option(help="A classifier as TFLite file.")] = None,
    classes: Annotated[Path | None, typer.Option(help="Names of its classes, one a line.")] = None,
    detector: Annotated[Path | None, typer.Option(help="A detector of FastestDet's form as ONNX file.")] = None,
    names: Annotated[Path | None, typer.Option(help="Names of the detector's classes, one a line.")] = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="Which labels mean the same: lines of label, tab, name of the set.")
    ] = None,
    bundle: BundleOption = None,
    link: Annotated[
        str | None, typer.Option(help="A rate such as 64kbit, or a trace file (Mahimahi, or seconds and Mbit/s).")
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="With --link: frames a second at most.")] = 5.0,
    codecs: Annotated[str, typer.Option(help="Names with commas, as in bench rd.")] = _CODECS,
    sizes: SizesOption = "full,half",
    settings: Annotated[int, typer.Option(min=2, max=50, help="At most so many settings a codec.")] = 5,
    json_: JsonOption = False,
) -> None:
    """Measure how much of what a network learns from pictures survives each codec at each size.

    A classifier or a detector of your choice looks at the originals and at what each codec leaves of them. Reported are
    the semantic entropy of the pictures, the semantic information kept, the bits spent on it, the operational semantic
    rate-distortion curve with its hull, and with --link the useful bits a second. docs/guides/semantics.md
    explains them.

    Example: edgesem measure --data photos --out meaning --detector FastestDet.onnx --names coco.names --link 64kbit
    """
    one_thread()
    import json

    from edgesem.errors import require
    from edgesem.files import find_pictures, write_whole
    from edgesem.quality.judges import Classifier, Detector, read_names
    from export.bench.rd.baselines import ORIGINAL
    from export.bench.rd.codecs import choose
    from export.bench.semantics import meaning
    from export.bench.semantics.link import open_link
    from export.bench.semantics.observations import SemanticJudge, observe, open_observations, spread
    from export.bench.semantics.plot import plot
    from export.bench.semantics.report import report

    if classifier is None and detector is None:
        raise UsageError("name at least one judge: --classifier FILE.tflite, or --detector FILE.onnx with --names FILE")
    if (detector is None) != (names is None):
        raise UsageError("--detector and --names go together: the detector's file has no names of its classes")
    require("matplotlib", "measure")
    opened = None if link is None else open_link(link)
    joined = meaning.read_synonyms(synonyms) if synonyms else {}
    class_names = read_names(classes) if classes else ()
    judge = SemanticJudge(
        Classifier(classifier) if classifier else None,
        Detector(detector, names) if detector is not None and names is not None else None,
    )
    pictures = find_pictures(data)
    choice = choose(None if codecs == _CODECS else codecs, _CODECS, sizes, bundle)
    for name, reason in choice.left_out.items():
        log.print(Text(f"without {name}: {reason}", "yellow"), soft_wrap=True)
    kept = open_observations(result_folder(out) / "measure_cache.jsonl")
    total = len(pictures) * (1 + sum(len(spread(codec.settings, settings)) for codec in choice.codecs))
    with progress("coding and judging", total) as bar:
        observations = observe(pictures, choice.codecs, settings, judge, kept, bar.advance)
    originals = [one for one in observations if one.codec == ORIGINAL]
    judges = {}
    if classifier is not None:
        judges["classifier"] = meaning.by_class(originals, class_names, joined)
    if detector is not None:
        judges["detector"] = meaning.by_object(originals, joined)
    result: dict[str, Any] = {
        "data": data.resolve().name,
        "versions": {codec.name: codec.version for codec in choice.codecs},
        "judge_files": {
            "classifier": classifier.name if classifier else None,
            "detector": detector.name if detector else None,
        },
        **report(observations, judges, class_names, opened, fps),
    }
    write_whole(out / "measure.json", json.dumps(result, indent=1, allow_nan=False).encode())
    plot(result, out / "measure.png")
    for what, reason in result["refused"].items():
        log.print(f"not estimated, {what}: {reason}", style="yellow", markup=False, soft_wrap=True)
    log.print(Text(f"{out / 'measure.json'}, {out / 'measure.png'}"), soft_wrap=True)
    emit(result, json_, _render)


def _render(result: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = []
    for name, judged in result["judges"].items():
        stream = judged["stream"]
        title = (
            f"{name}, {result['pictures']} pictures: H_s {_interval(stream['semantic_entropy'])} bits over "
            f"{len(stream['sets'])} sets; H {_interval(stream['label_entropy'])} over {stream['labels']} labels"
        )
        if embedding := stream.get("embedding_entropy"):
            title += f"; embeddings {embedding['bits']:.2f} of at most {embedding['ceiling_bits']:.2f}"
        rows = [
            (
                codec,
                f"{point['setting']:g}",
                f"{point['bytes']:.0f}",
                _interval(point["kept"]),
                "-" if point["spent_per_kept"] is None else f"{point['spent_per_kept']:.0f}",
                f"{point['mismatch']:.1%}",
                f"{point['floor_bits']:.2f}",
            )
            for codec, points in judged["codecs"].items()
            for point in points
        ]
        columns = ("codec", "setting", "bytes", "bits kept", "spent/kept", "misread", "R(D)")
        parts += [Text(title, style="bold"), table(columns, rows)]
        for family, found in judged["useful"].items():
            parts.append(
                Text(
                    f"{family}: {found['adaptive_bps']:.2f} useful bits/s through {result['link']['name']} "
                    f"(one size only: {found['fixed_bps']:.2f}, {found['fixed_low_bps']:.2f} to "
                    f"{found['fixed_high_bps']:.2f}, {found['codec']} at {found['bytes']:.0f} bytes, "
                    f"{found['frames_per_s']:.2f} frames/s)"
                )
            )
    return Group(*parts)


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['bits']:.2f} ({found['low_bits']:.2f} to {found['high_bits']:.2f})"

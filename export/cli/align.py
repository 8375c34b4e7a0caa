"""Commands `edgesem align` and `edgesem bench watch`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, pairs, progress, table
from edgesem.errors import UsageError
from export.cli.bundle import identity_of
from export.cli.options import BundleOption, JsonOption, own_bundle, stage_progress

if TYPE_CHECKING:
    from rich.table import Table

    from export.semantics.teacher import Teacher

_Classifier = Annotated[Path | None, typer.Option(help="A classifier as TFLite file.", show_default=False)]
_Labels = Annotated[Path | None, typer.Option(help="Names of its classes, one a line.", show_default=False)]
_Clip = Annotated[
    Path | None, typer.Option(help="Instead: a CLIP model in a folder of Hugging Face's form.", show_default=False)
]


def align(
    data: Annotated[list[Path], typer.Option(help="Folder of photographs; may be given more than once.")],
    out: Annotated[Path, typer.Option(help="Folder for the head and the teacher's answers, which are kept.")],
    classifier: _Classifier = None,
    labels: _Labels = None,
    hf: _Clip = None,
    bundle: BundleOption = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train.")] = 5.0,
    squares: Annotated[int, typer.Option(min=2, max=200, help="Pieces of each picture to learn from.")] = 16,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all")] = None,
    add: Annotated[bool, typer.Option("--add", help="Put the head into the bundle of --bundle, too.")] = False,
    sign: Annotated[Path | None, typer.Option(help="With --add: your signing key.", show_default="unsigned")] = None,
    json_: JsonOption = False,
) -> None:
    """Teach a bundle's encoder to say what a picture means: a small head whose 128 numbers text can be compared with.

    No captions are needed: a classifier says what is in each photograph, and a text encoder what its class names mean.
    What the classifier said is kept in OUT, so that another codec's head takes its own training alone; a head that was
    made for the same encoder from the same photographs is used again as it is.

    Example: edgesem align --data photos --classifier mobilenet_v2.tflite --labels names.txt --out head
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from edgesem.bundle.bundle import Bundle
    from export.semantics.align import AlignSettings, add_head, align, made_before

    if threads is not None:
        torch.set_num_threads(threads)
    teacher_files, teacher = _teacher(classifier, labels, hf)
    opened, identity = Bundle.open(own_bundle(bundle) if add else bundle), identity_of(sign)
    settings = AlignSettings(tuple(data), minutes, squares, seed)
    report = made_before(opened, teacher_files, settings, out)
    if report is None:
        with stage_progress("starting") as show:
            report = align(opened, teacher(), teacher_files, settings, out, show)
    else:
        log.print(f"{out} holds the head of this encoder already", markup=False, soft_wrap=True)
    result = {"folder": out, **{name: value for name, value in report.items() if name != "encoder_mark"}}
    if add:
        result["bundle"] = opened.folder
        result["head"] = add_head(opened, out, identity)
    emit(result, json_, lambda r: pairs(r, f"{out}: a head"))


def bench_watch(
    data: Annotated[Path, typer.Option(help="Folder of pictures that the head has not learned from.")],
    labels: Annotated[Path, typer.Option(help="Folder of YOLO label files: class x y w h a line.")],
    names: Annotated[Path, typer.Option(help="Names of the classes in them, one a line.")],
    classifier: _Classifier = None,
    class_names: _Labels = None,
    hf: _Clip = None,
    bundle: BundleOption = None,
    least: Annotated[int, typer.Option(min=1, help="Pictures that must show a name for it to count.")] = 5,
    json_: JsonOption = False,
) -> None:
    """Measure how well --watch finds its pictures: average precision of each name, beside a full-size classifier's.

    The head's embedding goes through the 64 bytes of a packet first. Both are asked with the same vectors of the same
    texts, and the truth is in the label files.

    Example: edgesem bench watch --data images --labels labels --names coco.names --classifier mobilenet_v2.tflite
    """
    from edgesem.codec.codec import load
    from edgesem.quality.judges import read_names
    from export.bench.semantics.watch import read_labelled, watch_bench

    teacher = _teacher(classifier, class_names, hf)[1]() if classifier or hf else None
    found = read_labelled(data, labels, read_names(names))
    codec = load(bundle)
    with progress("looking") as bar:
        result = watch_bench(found, codec, teacher, least, bar.update)
    emit(result, json_, _render)


def _teacher(
    classifier: Path | None, labels: Path | None, hf: Path | None
) -> tuple[tuple[Path, ...], Callable[[], Teacher]]:
    """The files of the teacher that is named, and how it is opened. Raises UsageError for none and for two."""
    from edgesem.semantics.text_encoder import SentenceEncoder
    from export.semantics.teacher import ClassifierTeacher, ClipTeacher

    if hf is not None and classifier is not None:
        raise UsageError("--classifier and --hf are two teachers: name one")
    if hf is not None:
        weights = sorted(path for path in hf.iterdir() if path.suffix in (".safetensors", ".bin"))
        return tuple(weights), lambda: ClipTeacher(hf, labels)
    if classifier is None or labels is None:
        raise UsageError("name a teacher: --classifier FILE.tflite with the names of its classes, or --hf FOLDER")
    return (classifier, labels), lambda: ClassifierTeacher(classifier, labels, SentenceEncoder())


def _render(result: Mapping[str, Any]) -> Table:
    mean = result["mean"]
    share = "" if result["share"] is None else f", head at {100 * result['share']:.0f} % of the classifier"
    shown = table(
        ("query", "pictures", *mean),
        ((row["query"], row["pictures"], *(f"{row[name]:.3f}" for name in mean)) for row in result["queries"]),
        f"Average precision over {result['pictures']} pictures{share}",
    )
    shown.add_row("mean", "", *(f"{value:.3f}" for value in mean.values()), style="bold")
    shown.add_row("by chance", "", *(f"{result['chance']:.3f}" for _ in mean))
    return shown

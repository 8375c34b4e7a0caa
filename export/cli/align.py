"""Commands `edgesem align` and `edgesem bench watch`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, pairs, progress, table
from edgesem.errors import UsageError
from export.cli.options import JsonOption, own_bundle

if TYPE_CHECKING:
    from rich.table import Table

    from export.semantics.teacher import Teacher

_Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle.", show_default="the one that ships")]
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
    bundle: _Bundle = None,
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
    teacher_files = _files(classifier, labels, hf)
    opened = Bundle.open(own_bundle(bundle) if add else bundle)
    settings = AlignSettings(tuple(data), minutes, squares, seed)
    report = made_before(opened, teacher_files, settings, out)
    if report is None:
        teacher = _teacher(classifier, labels, hf)
        report = _watched(lambda show: align(opened, teacher, teacher_files, settings, out, show))
    else:
        log.print(f"{out} holds the head of this encoder already", markup=False, soft_wrap=True)
    result = {"folder": out, **{name: value for name, value in report.items() if name != "encoder_mark"}}
    if add:
        result["bundle"] = opened.folder
        result["head"] = add_head(opened, out, sign)
    emit(result, json_, lambda r: pairs(r, f"{out}: a head"))


def bench_watch(
    data: Annotated[Path, typer.Option(help="Folder of pictures that the head has not learned from.")],
    labels: Annotated[Path, typer.Option(help="Folder of YOLO label files: class x y w h a line.")],
    names: Annotated[Path, typer.Option(help="Names of the classes in them, one a line.")],
    classifier: _Classifier = None,
    class_names: _Labels = None,
    hf: _Clip = None,
    bundle: _Bundle = None,
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

    teacher = _teacher(classifier, class_names, hf) if classifier or hf else None
    found = read_labelled(data, labels, read_names(names))
    codec = load(bundle)
    result = _watched(lambda show: watch_bench(found, codec, teacher, least, lambda s: show("looking", s)))
    emit(result, json_, _render)


def _files(classifier: Path | None, labels: Path | None, hf: Path | None) -> tuple[Path, ...]:
    if hf is None and (classifier is None or labels is None):
        raise UsageError("name a teacher: --classifier FILE.tflite with the names of its classes, or --hf FOLDER")
    if hf is not None and classifier is not None:
        raise UsageError("--classifier and --hf are two teachers: name one")
    if hf is not None:
        return tuple(sorted(path for path in hf.iterdir() if path.suffix in (".safetensors", ".bin")))
    assert classifier is not None
    assert labels is not None
    return (classifier, labels)


def _teacher(classifier: Path | None, labels: Path | None, hf: Path | None) -> Teacher:
    from edgesem.semantics.text_encoder import SentenceEncoder
    from export.semantics.teacher import ClassifierTeacher, ClipTeacher

    _files(classifier, labels, hf)
    if hf is not None:
        return ClipTeacher(hf, labels)
    assert classifier is not None
    assert labels is not None
    return ClassifierTeacher(classifier, labels, SentenceEncoder())


def _watched(work: Callable[[Callable[[str, float], None]], dict[str, Any]]) -> dict[str, Any]:
    with progress("starting") as bar:
        return work(lambda stage, share: bar.update(share, what=stage))


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

"""Options and helpers that several commands of the workstation share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import typer

from edgesem.cli.console import progress
from edgesem.errors import InputError, UsageError
from edgesem.packet.packet import MAX_SIDE


def _weights_folder(own: Path) -> Path:
    """`own`, where this code is a checkout; otherwise that of the checkout in which the command is called."""
    return own if own.is_dir() else Path("export/weights")


WEIGHTS = _weights_folder(Path(__file__).parents[1] / "weights")
"""Of the bundle that ships; only a checkout has them."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
BundleOption = Annotated[
    Path | None, typer.Option(help="Folder of edgesem's bundle.", show_default="the one that ships")
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "int8"], typer.Option(help="edgesem's encoder; auto: int8 where the CPU is made for it")
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="What trains; auto: a CUDA GPU where there is one.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads.", show_default="the fastest in the first steps")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue a run in --out that was begun with other settings.")
]
PlotOption = Annotated[bool, typer.Option(help="Also draw the log as RUN/log.png at the end.")]
SignOption = Annotated[
    Path | None, typer.Option(help="File of your signing key, as `edgesem key` makes it.", show_default="unsigned")
]
SizesOption = Annotated[str, typer.Option(help="Sizes at which the codecs other than edgesem code.")]


def one_thread() -> None:
    """Let numpy, torch and the processes started from here use one thread; to be called before they are loaded."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"


@contextmanager
def stage_progress(first: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar as a function of the stage and the share of it that is done, 0..1."""
    with progress(first) as bar:
        yield lambda stage, done: bar.update(done, what=stage)


def parsed_size(text: str, least: int = 1) -> tuple[int, int]:
    """Width and height of --size. Raises UsageError for anything else, or sides that are not `least` to 4096."""
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if found is None or not all(least <= int(side) <= MAX_SIDE for side in found.groups()):
        raise UsageError(f"--size takes width and height of {least} to {MAX_SIDE} pixels, as 640x360, not {text!r}")
    return int(found[1]), int(found[2])


def own_bundle(bundle: Path | None) -> Path:
    """The folder of a bundle that is to be changed. Raises UsageError where none is named, or the one that ships.

    That one is a part of the installed program: a change would be for all its users, and gone with the next version.
    """
    from edgesem.bundle.bundle import DEFAULT, DEFAULT_WORD

    if bundle is None or str(bundle) == DEFAULT_WORD:
        raise UsageError(f"the bundle that ships is not changed: copy it (cp -r {DEFAULT} mine) and name the copy")
    return bundle


def result_folder(out: Path) -> Path:
    """`out`, which is made if it is not there. Raises InputError where nothing can be written into it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise InputError(f"cannot write into the folder {out}: {error.strerror}; name another one") from error

"""Measurement of rate and distortion: real files of real pictures, by each codec at each setting.

    pictures -> encode, decode (timed, one thread, the codecs in turn) -> PictureMetrics -> Point -> PointStore

What the store holds already is not measured again, so a new bundle costs only its own measurements.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from edgesem.files import read_picture
from edgesem.quality.metrics import Frame, ms_ssim, psnr
from edgesem.quality.ssimulacra2 import ssimulacra2
from export.bench.rd.baselines import CodecUnderTest
from export.bench.rd.points import Coding, Point, PointStore, Quality, picture_digest
from export.metrics.dists import DistsLike
from export.metrics.lpips import Lpips
from export.program import FIGURES, program_digest

_LONG_S = 0.5  # when runs have taken this long together, there are no more for the timing
_T = TypeVar("_T")


@dataclass(frozen=True)
class PictureMetrics:
    """The metrics that compare a decoded picture with its original. Can be sent to another process."""

    networks: tuple[tuple[str, Path, str], ...] = ()
    """Metrics by a network: the name in `Quality`, the file of weights, and its digest."""

    @classmethod
    def create(cls, lpips: Path | None, vgg: Path | None = None) -> PictureMetrics:
        """PSNR, MS-SSIM and SSIMULACRA2; with the weights of AlexNet's LPIPS or of VGG16, the metrics that need them.

        Raises InputError for a file without such weights.
        """
        asked = {name: path for name, path in (("lpips", lpips), ("dists_like", vgg)) if path}
        return cls(tuple((name, path, _network(name, path).digest[:16]) for name, path in asked.items()))

    @property
    def version(self) -> str:
        """What the numbers depend on."""
        return f"measures {program_digest(FIGURES)[:8]}"

    def all_in(self, known: Quality) -> bool:
        """Whether `known` holds all that would be measured."""
        return all(getattr(known, f"{name}_weights") == weights for name, _, weights in self.networks)

    def __call__(self, original: Frame, decoded: Frame, known: Quality | None) -> Quality:
        """The quality, where `known` (of the same pixels) is completed only."""
        if known is None:
            known = Quality(
                psnr=min(psnr(original, decoded), 100.0),
                ms_ssim=ms_ssim(original, decoded),
                ssimulacra2=ssimulacra2(original, decoded),
            )
        for name, path, weights in self.networks:
            if getattr(known, f"{name}_weights") != weights:
                value = _network(name, path)(original, decoded)
                known = replace(known, **{name: value, f"{name}_weights": weights})  # type: ignore[arg-type]
        return known


def measure(
    pictures: Sequence[Path],
    codecs: Sequence[CodecUnderTest],
    store: PointStore,
    metrics: PictureMetrics,
    *,
    jobs: int = 1,
    fresh: bool = False,
    retime: bool = False,
    done: Callable[[int], None] = lambda count: None,
) -> list[Point]:
    """A point for each picture x codec x setting, out of the store, or measured now and put there.

    fresh: measure all again. retime: code all again, up to three times, so that all times are of this run and less
    disturbed, but keep the quality of what decodes to the same pixels. jobs: processes that measure quality; nothing
    is coded and timed while they work. done: is told how many points were completed.
    """
    run = datetime.now().astimezone().isoformat(timespec="seconds")
    points: list[Point] = []
    warm: set[str] = set()
    with _mapper(jobs) as parallel:
        for path in pictures:
            frame = read_picture(path)
            digest = picture_digest(frame)
            todo: list[_Task] = []
            for codec, setting in _in_turn(codecs):
                version = f"{codec.version}; {metrics.version}"
                known = None if fresh else store.get((digest, codec.name, setting, version))
                if known and not retime and metrics.all_in(known.quality):
                    points.append(replace(known, picture=path.name))
                else:
                    todo.append(_Task(codec, setting, version))
            done(sum(len(codec.settings) for codec in codecs) - len(todo))
            for group in _groups(todo, 8 * jobs):  # so many decoded pictures are held at once
                for task in group:
                    if task.codec.name not in warm:  # what is loaded on first use is nobody's coding time
                        _code(task, frame, run, 1)
                        warm.add(task.codec.name)
                coded = [_code(task, frame, run, 3 if retime else 1) for task in group]
                same = [None if fresh else store.quality(digest, c.decoded_digest, metrics.version) for c, _ in coded]
                qualities = parallel(metrics, [frame] * len(group), [decoded for _, decoded in coded], same)
                for task, (coding, _), quality in zip(group, coded, qualities, strict=True):
                    point = Point(
                        picture=path.name,
                        picture_digest=digest,
                        pixels=frame.shape[0] * frame.shape[1],
                        codec=task.codec.name,
                        setting=task.setting,
                        version=task.version,
                        coding=coding,
                        quality=quality,
                    )
                    store.add(point)
                    points.append(point)
                    done(1)
    return points


class _Task(NamedTuple):
    codec: CodecUnderTest
    setting: float
    version: str


def _in_turn(codecs: Sequence[CodecUnderTest]) -> Iterator[tuple[CodecUnderTest, float]]:
    """Each codec's first setting, each one's second, and so on: what slows the machine down hits all alike."""
    for index in range(max((len(codec.settings) for codec in codecs), default=0)):
        for codec in codecs:
            if index < len(codec.settings):
                yield codec, codec.settings[index]


def _code(task: _Task, frame: Frame, run: str, rounds: int) -> tuple[Coding, Frame]:
    """Encode and decode once, with their times: the size and times, and the decoded picture."""
    data, encode_s, encode_cpu_s = _timed(lambda: task.codec.encode(frame, task.setting), rounds)
    size = (frame.shape[0], frame.shape[1])
    decoded, decode_s, decode_cpu_s = _timed(lambda: task.codec.decode(data, size), rounds)
    return Coding(len(data), encode_s, decode_s, encode_cpu_s, decode_cpu_s, picture_digest(decoded), run), decoded


def _timed(work: Callable[[], _T], rounds: int) -> tuple[_T, float, float]:
    """The result of `work`, and its wall and processor time, in seconds: the least of `rounds`, of fewer if it is long.

    The least, because whatever else the machine does can only add to it.
    """
    wall_s, cpu_s = [], []
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        value = work()
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
        if len(wall_s) == rounds or sum(wall_s) > _LONG_S:
            return value, min(wall_s), min(cpu_s)


def _groups(tasks: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterable[Quality]]]:
    """`map`, here for one job, else over so many processes (spawned: a fork would copy running thread pools)."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool.map


@cache
def _network(name: str, path: Path) -> Lpips | DistsLike:
    return (Lpips if name == "lpips" else DistsLike)(path)

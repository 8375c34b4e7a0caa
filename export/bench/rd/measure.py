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

from edgesem.errors import UsageError
from edgesem.files import read_picture
from edgesem.quality.metrics import Frame, gmsd, ms_ssim, psnr
from edgesem.quality.ssimulacra2 import ssimulacra2
from edgesem.sources import program_digest
from export.bench.rd.baselines import CodecUnderTest
from export.bench.rd.clock import cpu_time_s
from export.bench.rd.points import Coding, Point, PointStore, Quality, picture_digest
from export.metrics.detector import DetectorFeatures
from export.metrics.distance import FeatureDistance
from export.metrics.dists import Dists, DistsLike
from export.metrics.lpips import Lpips, LpipsVgg
from export.metrics.weights import read_weights
from export.program import FIGURES

_T = TypeVar("_T")


@dataclass(frozen=True)
class PictureMetrics:
    """The metrics that compare a decoded picture with its original. Can be sent to another process."""

    networks: tuple[tuple[str, tuple[Path, ...], str], ...] = ()
    """Metrics by a network: the name in `Quality`, the files of weights, and their digest."""

    @classmethod
    def create(
        cls,
        lpips: Path | None,
        vgg: Path | None = None,
        *,
        lpips_vgg: Path | None = None,
        dists: Path | None = None,
        detector: Path | None = None,
    ) -> PictureMetrics:
        """PSNR, MS-SSIM, SSIMULACRA2 and GMSD; with the user's files of weights, the metrics that need them.

        lpips: AlexNet's LPIPS. vgg: VGG16, for a measure in the manner of DISTS. dists: DISTS' learned weights, for
        DISTS itself in its place. lpips_vgg: the linear weights of LPIPS by VGG16, if `vgg` does not hold them.
        detector: an ONNX graph of FastestDet's form, for the distance of its features. Raises InputError for a file
        without such weights, and UsageError for `dists` or `lpips_vgg` without VGG16.
        """
        asked: dict[str, tuple[Path, ...]] = {}
        if lpips:
            asked["lpips"] = (lpips,)
        if dists:
            asked["dists"] = _with_vgg(vgg, dists, "--dists")
        elif vgg:
            asked["dists_like"] = (vgg,)
        if lpips_vgg:
            asked["lpips_vgg"] = _with_vgg(vgg, lpips_vgg, "--lpips-vgg")
        elif vgg and {"lin4", "conv12.w"} <= read_weights(vgg)[0].keys():
            asked["lpips_vgg"] = (vgg,)
        if detector:
            asked["detector_features"] = (detector,)
        return cls(tuple((name, paths, _network(name, paths).digest[:16]) for name, paths in asked.items()))

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
                gmsd=gmsd(original, decoded),
            )
        for name, paths, weights in self.networks:
            if getattr(known, f"{name}_weights") != weights:
                value = _network(name, paths)(original, decoded)
                known = replace(known, **{name: value, f"{name}_weights": weights})  # type: ignore[arg-type]
        return known


def measure(
    pictures: Sequence[Path],
    codecs: Sequence[CodecUnderTest],
    store: PointStore,
    metrics: PictureMetrics,
    *,
    jobs: int = 1,
    done: Callable[[int], None] = lambda count: None,
) -> list[Point]:
    """A point for each picture x codec x setting, out of the store, or measured now and put there.

    jobs: processes that measure quality; nothing is coded and timed while they work. done: is told how many points were
    completed.
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
                known = store.get((digest, codec.name, setting, version))
                if known and metrics.all_in(known.quality):
                    points.append(replace(known, picture=path.name))
                else:
                    todo.append(_Task(codec, setting, version))
            done(sum(len(codec.settings) for codec in codecs) - len(todo))
            for group in _groups(todo, 8 * jobs):  # so many decoded pictures are held at once
                for task in group:
                    if task.codec.name not in warm:  # what is loaded on first use is nobody's coding time
                        _code(task, frame, run)
                        warm.add(task.codec.name)
                coded = [_code(task, frame, run) for task in group]
                same = [store.quality(digest, c.decoded_digest, metrics.version) for c, _ in coded]
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


def _code(task: _Task, frame: Frame, run: str) -> tuple[Coding, Frame]:
    """Encode and decode once, with their times: the size and times, and the decoded picture."""
    data, encode_s, encode_cpu_s = _timed(lambda: task.codec.encode(frame, task.setting))
    size = (frame.shape[0], frame.shape[1])
    decoded, decode_s, decode_cpu_s = _timed(lambda: task.codec.decode(data, size))
    payload = task.codec.payload(data)
    digest = picture_digest(decoded)
    return Coding(len(data), encode_s, decode_s, encode_cpu_s, decode_cpu_s, digest, run, payload), decoded


def _timed(work: Callable[[], _T]) -> tuple[_T, float, float]:
    """The result of `work`, and its wall and processor time, in seconds."""
    wall_s, cpu_s = time.perf_counter(), cpu_time_s()
    value = work()
    return value, time.perf_counter() - wall_s, cpu_time_s() - cpu_s


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


def _with_vgg(vgg: Path | None, weights: Path, option: str) -> tuple[Path, ...]:
    """Files that together have VGG16 and the weights that go with it: the state of a whole network needs no other."""
    if vgg is None and "conv12.w" not in read_weights(weights)[0]:
        raise UsageError(
            f"{option} {weights} has no network: name VGG16's weights with --vgg, see docs/results/judges.md"
        )
    return (weights,) if vgg is None else (vgg, weights)


@cache
def _network(name: str, paths: tuple[Path, ...]) -> FeatureDistance:
    kinds: dict[str, Callable[..., FeatureDistance]]
    kinds = {"lpips": Lpips, "lpips_vgg": LpipsVgg, "dists": Dists, "dists_like": DistsLike}
    kinds["detector_features"] = DetectorFeatures
    return kinds[name](*paths)

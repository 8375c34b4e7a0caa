"""A profile run: idle, sender, receiver, other codecs if asked for, idle again; the meter is read all the while."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import edgesem
from edgesem.bundle.runner import Precision, Runtime
from runtime.profile import compare, operators
from runtime.profile.csv_meter import CsvMeter
from runtime.profile.energy import Ledger, Sample, power_series
from runtime.profile.frames import open_frames, parse_size
from runtime.profile.meter import Choice, Meter, choose
from runtime.profile.sampler import Sampler, period_of
from runtime.profile.sensors import PMIC, PMIC_FIT, candidates
from runtime.profile.stages import Loopback, StageRunner, engine_of, peak_memory_bytes
from runtime.profile.sysfs import Sysfs, throttle_bits, throttling
from runtime.profile.timing import Phase, Stopwatch, Window, steady

_COMPARED_FRAMES = 8
"""Frames that are given to each codec of a comparison; they stay in memory, so that reading a disk is not compared."""
_MAX_POINTS = 2000


@dataclass(frozen=True)
class Settings:
    """Settings of a profile; `seconds` are shared by sender and receiver."""

    seconds: float
    source: str | None = None
    size: str = "768x512"
    quality: float = 0.5
    threads: int = 1
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    bundle: Path | None = None
    meter: str | None = None
    idle_s: float = 10.0
    compare: bool = False
    operators: bool = False
    joule_per_byte: float | None = None


def profile(
    settings: Settings, progress: Callable[[str], None] = lambda _: None, root: Path = Path("/")
) -> dict[str, Any]:
    """Run a profile and return its figures, as `edgesem profile --json` prints them.

    `progress` is called with what is being done. `root` is where /sys is looked for.
    """
    size = parse_size(settings.size)
    sysfs = Sysfs(root)
    codec = edgesem.load(settings.bundle, settings.threads, precision=settings.precision, runtime=settings.runtime)
    frames = open_frames(settings.source, size)
    stages = StageRunner(codec, frames, quality=settings.quality, stopwatch=Stopwatch())
    wanted = settings.meter or ""
    external = CsvMeter(Path(wanted.removeprefix("csv:"))) if wanted.startswith("csv:") else None
    if external is not None:
        external.read(_offset_s())  # an unusable file is refused before a minute is spent
        choice = Choice()
    else:
        choice = Choice() if settings.meter == "none" else choose(candidates(sysfs), settings.meter)
    metered = external is not None or choice.meter is not None
    throttle_before = throttle_bits(sysfs)
    compared: list[compare.CodecResult] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesem-profile-")))
        loopback = stack.enter_context(Loopback())
        # What is loaded lazily must not be loaded in the idle window.
        stages.send(0, loopback)
        steps = stages.flow_steps()
        stages.receive(0, steps)
        stages.stopwatch = Stopwatch()
        with Sampler(choice.meter, folder, root) as sampler:
            before = _idle(settings.idle_s, progress, "before") if metered else None
            progress(f"sender, {settings.seconds / 2:.0f} s")
            sender = stages.send(settings.seconds / 2, loopback)
            progress(f"receiver, {settings.seconds / 2:.0f} s")
            receiver = stages.receive(settings.seconds / 2, 0)
            if settings.compare:
                pictures = list(islice(frames, _COMPARED_FRAMES))
                for tested in compare.codecs_under_test(codec, settings.threads):
                    progress(f"{tested.name} at {tested.setting:g}, {settings.seconds / 4:.0f} s")
                    compared.append(compare.run(tested, pictures, settings.seconds / 4))
            after = _idle(settings.idle_s, progress, "after") if metered else None
            ended_s = time.monotonic()
        if steps:  # timed alone: joules a frame are those of step 0
            progress(f"flow steps, {settings.seconds / 4:.0f} s")
            stages.receive(settings.seconds / 4, steps)
    throttle = throttling(throttle_before, throttle_bits(sysfs))
    ledger = _ledger(external, choice.meter, sampler, before, after)
    result: dict[str, Any] = {
        "edgesem": edgesem.__version__,
        "board": {
            "model": sysfs.model() or platform.processor() or platform.machine(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "cores_ours": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "system": platform.platform(),
        },
        "settings": {
            "seconds": settings.seconds,
            "size": settings.size,
            "quality": settings.quality,
            "threads": settings.threads,
            "source": settings.source or "photographs that ship",
        },
        "bundle": {"id": codec.bundle.id, "digest": codec.bundle.digest},
        "engine": engine_of(codec, settings.precision, settings.runtime),
        "stages": stages.stopwatch.summary(),
        "send": {"broker": loopback.kind, "reason": loopback.reason},
        "frame": {
            "sender_p50_s": _p50(sender),
            "receiver_p50_s": _p50(receiver),
            "bytes_per_frame": sum(p.wire_bytes for p in stages.packets) / len(stages.packets),
        },
        "steady": {
            "sender": steady(sender.finished, sampler.temperatures),
            "receiver": steady(receiver.finished, sampler.temperatures),
        },
        "temperature_c": _span([degrees for _, degrees in sampler.temperatures]),
        "throttle": throttle,
        "peak_memory_bytes": peak_memory_bytes(),
        "sampling": {
            "period_s": sampler.period_s,
            "cpu_share": sampler.cpu_share,
            "failed": sampler.failed,
            "faults": sampler.faults,
        },
        "energy": None,
        "energy_reason": None,
        "input_estimate": None,
        "codecs": None,
        "power": [],
    }
    if ledger is None:
        result["energy_reason"] = "switched off" if settings.meter == "none" else choice.reason
    else:
        _add_energy(result, ledger, external or choice.meter, sender, receiver, throttle)
        result["meters_tried"] = choice.tried
        run = Window((before or sender.window).start_s, ended_s)
        result["power"] = _thinned(power_series(ledger.samples, counts=ledger.counts), run, sender.window.start_s)
    if compared:
        result["codecs"] = _codecs(compared, ledger, settings.joule_per_byte)
    if settings.operators:
        progress("operators")
        result["operators"] = operators.by_operator(
            codec, next(frames), settings.threads, settings.precision, settings.runtime
        )
    return result


def _idle(seconds: float, progress: Callable[[str], None], when: str) -> Window | None:
    """Do nothing for so long."""
    if seconds <= 0:
        return None
    progress(f"idle {when}, {seconds:.0f} s")
    start_s = time.monotonic()
    time.sleep(seconds)
    return Window(start_s, time.monotonic())


def _offset_s() -> float:
    return time.time() - time.monotonic()


def _ledger(
    external: CsvMeter | None, meter: Meter | None, sampler: Sampler, before: Window | None, after: Window | None
) -> Ledger | None:
    if external is not None:
        samples: list[Sample] = external.read(_offset_s())
        return Ledger(samples, False, external.period_s, before, after)
    if meter is None:
        return None
    return Ledger(sampler.samples, meter.counts, sampler.period_s or period_of(meter), before, after)


def _add_energy(
    result: dict[str, Any],
    ledger: Ledger,
    meter: Meter | CsvMeter | None,
    sender: Phase,
    receiver: Phase,
    throttle: dict[str, Any] | None,
) -> None:
    assert meter is not None
    accounts = {
        "sender": ledger.account(sender.window, sender.frames),
        "receiver": ledger.account(receiver.window, receiver.frames, receiver.decoded_bytes),
    }
    reasons = [f"{name}: {account}" for name, account in accounts.items() if isinstance(account, str)]
    if throttle is not None and not throttle["valid"]:
        reasons.append(f"the board throttled ({', '.join(throttle['now'] + throttle['during'])}): cool it, feed it")
    if reasons:
        result["energy_reason"] = "; ".join(reasons)
        return
    before_w, after_w = ledger.idle_w()
    result["energy"] = {
        "meter": meter.name,
        "scope": meter.scope,
        "rails": list(meter.rails),
        "calibrated": meter.name != PMIC,
        "idle_before_w": before_w,
        "idle_after_w": after_w,
        **accounts,
    }
    if meter.name == PMIC:
        result["input_estimate"] = {
            "by": f"{PMIC_FIT[0]:g} x rails + {PMIC_FIT[1]:g} W: two owners' fit at the plug, not measured here",
            **{
                f"{name}_w": PMIC_FIT[0] * account["mean_w"] + PMIC_FIT[1]
                for name, account in accounts.items()
                if not isinstance(account, str)
            },
        }


def _codecs(compared: list[compare.CodecResult], ledger: Ledger | None, joule_per_byte: float | None) -> dict[str, Any]:
    """Figures of each codec by setting; joules null without a meter, radio null without a price for a byte."""
    codecs: dict[str, list[dict[str, Any]]] = {}
    for one in compared:
        figures = one.figures()
        found = ledger.account(one.phase.window, one.phase.frames) if ledger is not None else "no meter"
        account, reason = (None, found) if isinstance(found, str) else (found, None)
        radio_j = joule_per_byte * one.size_bytes if joule_per_byte is not None else None
        figures |= {"energy_reason": reason, "radio_j_per_frame": radio_j}
        for kind in ("gross", "net"):
            frame_j = account[f"{kind}_j_per_frame"] if account else None
            figures[f"{kind}_j_per_frame"] = frame_j
            with_radio_j = None if frame_j is None or radio_j is None else frame_j + radio_j
            figures[f"{kind}_with_radio_j_per_frame"] = with_radio_j
        codecs.setdefault(one.codec.name, []).append(figures)
    return codecs


def _p50(phase: Phase) -> float:
    return float(np.median([seconds for _, seconds in phase.finished]))


def _span(values: list[float]) -> dict[str, float] | None:
    return {"first": values[0], "last": values[-1], "highest": max(values)} if values else None


def _thinned(points: list[tuple[float, float]], run: Window, zero_s: float) -> list[list[float]]:
    """At most 2000 points of the run, for the chart; time counts from the sender's start."""
    points = [point for point in points if run.start_s <= point[0] <= run.end_s]
    step = len(points) // _MAX_POINTS + 1
    return [[round(at_s - zero_s, 3), round(power_w, 4)] for at_s, power_w in points[::step]]

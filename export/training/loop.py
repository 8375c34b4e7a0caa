"""Training loop of all runs: ends by the clock, can be continued, keeps averaged weights and a log.

A run folder holds `checkpoint.pt` (to resume), `weights.safetensors` (averaged weights), `config.json`, `log.jsonl`,
and `history.jsonl`: a line for each call of a run that was continued, perhaps with other settings.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from edgesem.errors import EnvironmentMissing, InputError, UsageError
from edgesem.files import write_whole
from export.training.muon import Muon
from export.training.threads import ThreadTrial

LOG_STEPS = 100  # steps that a line of the log is the mean of
_SAVE_S = 180.0
_PATHS = ("data", "codec", "lpips", "vgg", "clips", "vision", "photographs")  # settings that are paths of one machine
_JUDGES = ("lpips", "vgg")  # paths of which the history says whether there was one: no loss is computed without it

Progress = Callable[[float, dict[str, Any]], None]


@dataclass(frozen=True)
class RunSettings:
    """Settings that every run has; they stand in its folder and later in the bundle's manifest."""

    data: str
    minutes: float
    crop: int = 256
    batch: int = 4
    learning_rate: float = 1e-3
    final_learning_rate: float = 2e-5
    average: float = 0.998
    seed: int = 0


S = TypeVar("S", bound=RunSettings)


@dataclass(frozen=True)
class RunOptions:
    """Options of one call of a run that say nothing of what comes of it."""

    threads: int | None = None
    """CPU threads; None: as many as the first steps show to be fastest."""
    resume: bool = False
    """Continue a run that was begun with other settings."""
    device: str = "auto"
    """cpu, cuda, or auto: a CUDA GPU where there is one."""


def device_of(options: RunOptions | None) -> torch.device:
    """The device that a run trains on. Raises EnvironmentMissing where it is to be a GPU and there is none."""
    wanted = options.device if options else "auto"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EnvironmentMissing("torch finds no CUDA GPU here: leave out --device, or install a torch made for CUDA")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def run(
    net: nn.Module,
    config: RunSettings,
    out: Path,
    loss_of: Callable[[nn.Module, float, Accelerator], tuple[Tensor, dict[str, float]]],
    progress: Progress,
    options: RunOptions | None = None,
    *,
    resumed: Callable[[int], None] = lambda step: None,
    beside: Mapping[str, nn.Module] | None = None,
) -> Path:
    """Train what requires a gradient in `net` until `config.minutes` are spent; returns the averaged weights' file.

    `loss_of(net, done, accelerator)` draws its own batch and gives the loss and what to log; `done` is 0..1 of the run.
    `progress(done, figures)` is called about once a second, and at the end. Continues when `out` holds a checkpoint,
    after `resumed(step)`; on another device, if need be. `beside` names modules that are trained in `loss_of` and must
    be in the checkpoint too. Raises InputError for a checkpoint that does not fit, and UsageError for one of other
    settings that `options.resume` does not ask to continue.
    """
    options = options or RunOptions()
    if not options.resume:
        _check_same(config, out)
    device = device_of(options)
    trial = ThreadTrial() if options.threads is None and device.type == "cpu" else None
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    out.mkdir(parents=True, exist_ok=True)
    half = "fp16" if device.type == "cuda" and not torch.cuda.is_bf16_supported() else "bf16"
    accelerator = Accelerator(mixed_precision=half, cpu=device.type == "cpu")
    # onto the device before optimizer and checkpoint: what is loaded goes to where the weights are
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(net, multi_avg_fn=averaging(config.average), use_buffers=True)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = Muon(net, config.learning_rate)
    saved: dict[str, Any] = {"net": net, "average": average, "optimizer": optimizer, **(beside or {})}
    spent_s, step = _resume(out / "checkpoint.pt", saved)
    if step:
        resumed(step)
    net, optimizer = accelerator.prepare(net, optimizer)
    write_whole(out / "config.json", json.dumps(asdict(config), indent=1).encode())
    with (out / "history.jsonl").open("a") as history:
        begun = {"from_minute": round(spent_s / 60, 2), "from_step": step}
        history.write(json.dumps({**begun, **_public(config)}) + "\n")
    saved_at = shown_at = clock = time.monotonic()
    seen: dict[str, list[float]] = {}  # since the last row of the log; a figure need not come with every step
    count, spent_here_s = 0, 0.0  # since then as well
    with (out / "log.jsonl").open("a") as log:
        while spent_s < config.minutes * 60:
            done = spent_s / (config.minutes * 60)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, done, step)
            with accelerator.autocast():
                loss, figures = loss_of(net, done, accelerator)
            optimizer.zero_grad()
            if math.isfinite(loss.item()):
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                average.update_parameters(accelerator.unwrap_model(net))
            step += 1
            count += 1
            for key, value in {"loss": loss.item(), **figures}.items():
                seen.setdefault(key, []).append(value)
            now = time.monotonic()
            spent_here_s += now - clock
            if trial is not None:
                trial.step_s(now - clock)
            spent_s, clock = spent_s + now - clock, now
            finished = spent_s >= config.minutes * 60
            if now - shown_at > 1 or finished:
                shown = {"step": step, "steps_per_s": count / max(1e-9, spent_here_s)}
                progress(min(1.0, spent_s / (config.minutes * 60)), {**shown, **_means(seen)})
                shown_at = now
            if count == LOG_STEPS or finished:
                means = {key: round(value, 5) for key, value in _means(seen).items()}
                speed = {"minutes": round(spent_s / 60, 2), "steps_per_s": round(count / max(1e-9, spent_here_s), 3)}
                log.write(json.dumps({"step": step, **speed, **means}) + "\n")
                log.flush()
                seen, count, spent_here_s = {}, 0, 0.0
            if now - saved_at > _SAVE_S or finished:
                _save(out, {**saved, "net": accelerator.unwrap_model(net)}, spent_s, step)
                saved_at = clock = time.monotonic()
    return out / "weights.safetensors"


def _check_same(config: RunSettings, out: Path) -> None:
    """Raise UsageError if `out` holds a checkpoint that was made with other settings; its time may be another."""
    if not (out / "checkpoint.pt").exists():
        return
    try:
        before = json.loads((out / "config.json").read_text())
        now = json.loads(json.dumps(asdict(config)))
        other = [name for name in now if name in before and name != "minutes" and before[name] != now[name]]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{out} cannot be continued: {error}; name another --out or remove it") from error
    if other := [name for name in other if not _same_place(before[name], now[name], name)]:
        changes = ", ".join(f"{name} {before[name]} -> {now[name]}" for name in other)
        raise UsageError(
            f"{out} was trained with other settings ({changes}): say --resume to continue it with these, give its own, "
            f"or name another --out"
        )


def _same_place(before: Any, now: Any, name: str) -> bool:
    """Whether two settings are one path, written in two ways."""
    return name in _PATHS and bool(before) and bool(now) and Path(before).resolve() == Path(now).resolve()


def _public(config: RunSettings) -> dict[str, Any]:
    """Settings that say nothing of this machine, for the history, which a bundle tells everybody."""
    settings = {name: bool(value) if name in _JUDGES else value for name, value in asdict(config).items()}
    return {name: value for name, value in settings.items() if name in _JUDGES or name not in _PATHS}


def _means(seen: Mapping[str, list[float]]) -> dict[str, float]:
    return {key: fmean(values) for key, values in seen.items()}


def averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """Exponential average of weights that forgets faster at first: after n steps, it spans n / 9 of them at most.

    With a `decay` of 0.998 from the first step on, a run of 500 steps kept 37 % of what it began with.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, current, strict=True):
            old.lerp_(new, 1 - kept) if old.is_floating_point() else old.copy_(new)

    return update


def learning_rate(config: RunSettings, done: float, step: int) -> float:
    """Cosine decay over the run after 200 steps of warm-up."""
    span = config.learning_rate - config.final_learning_rate
    return min(1.0, (step + 1) / 200) * (config.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * done)))


def read_settings(run: Path, kind: type[S]) -> S:
    """What the run in a folder was asked to do. Raises InputError if the folder holds no run of this kind."""
    try:
        found = json.loads((run / "config.json").read_text())
        return kind(**{part.name: found[part.name] for part in fields(kind) if part.name in found})
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run} holds no run that made what is asked for: {error!r}; see edgesem train") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that a run wrote. Raises InputError when the file cannot be read as such."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} does not hold weights of a run: {error}") from error


def _resume(checkpoint: Path, saved: Mapping[str, Any]) -> tuple[float, int]:
    """Load a checkpoint, if there is one, into everything that `saved` names; seconds and steps spent so far."""
    if not checkpoint.exists():
        return 0.0, 0
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        for name, part in saved.items():
            part.load_state_dict(state[name])
        return state["spent_s"], state["step"]
    except Exception as error:  # torch lets out whatever a damaged or foreign file makes it stumble on
        raise InputError(f"{checkpoint} cannot be continued: {error}; name another --out or remove it") from error


def _save(out: Path, saved: Mapping[str, Any], spent_s: float, step: int) -> None:
    """Write checkpoint and averaged weights, each to a temporary name first: a killed run never leaves half a file."""
    states = {name: part.state_dict() for name, part in saved.items()}
    torch.save({**states, "spent_s": spent_s, "step": step}, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    averaged = states["average"].items()
    weights = {key.removeprefix("module."): value.contiguous() for key, value in averaged if key != "n_averaged"}
    write_whole(out / "weights.safetensors", save(weights))  # its own file would be the user's alone

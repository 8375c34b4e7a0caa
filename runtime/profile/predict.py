"""Projection of the stages' times to a board that is not here, with an error band.

Networks: their multiplications, counted in a run here, over throughputs that others published for that board. What is
no network (entropy coding, Python): instructions counted under emulation of that processor, over its clock and an
assumed number of instructions a cycle. Neither knows heat, memory pressure or what else the board does.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import edgesem
from edgesem.errors import UsageError
from runtime.capture.frame import PHOTOS
from runtime.profile import counted
from runtime.profile.frames import parse_size, pictures
from runtime.profile.operators import macs_by_kind
from runtime.profile.published import BOARDS, ORT_OVER_NCNN, SOURCE, Core

_STAGES = {"encode": "encoder", "step0": "decoder"}
_CODING = ("pack", "unpack")


class Span(NamedTuple):
    """A projected time with its error band, in seconds."""

    low_s: float
    likely_s: float
    high_s: float


def core_of(board: str) -> Core:
    """The processor of a board. Raises UsageError for a board without published figures."""
    if board not in BOARDS:
        raise UsageError(f"--predict {board}: there are published throughputs for {', '.join(BOARDS)}")
    return BOARDS[board]


def network_span(core: Core, macs: Mapping[str, int], threads: int) -> Span:
    """Time of a network with so many multiplications of each kind, under ONNX Runtime in fp32."""
    low_s = likely_s = high_s = 0.0
    for kind, count in macs.items():
        slow, typical, fast = core.gmac_per_s(kind, threads)
        low_s += count / 1e9 / fast * ORT_OVER_NCNN[0]
        likely_s += count / 1e9 / typical * ORT_OVER_NCNN[1]
        high_s += count / 1e9 / slow * ORT_OVER_NCNN[2]
    return Span(low_s, likely_s, high_s)


def instruction_span(core: Core, instructions: float) -> Span:
    """Time of so many instructions in one thread."""
    slow, typical, fast = (instructions / (ipc * core.clock_hz) for ipc in core.ipc)
    return Span(fast, typical, slow)


def predict(board: str, size: str, threads: int, quality: float, bundle: Path | None = None) -> dict[str, Any]:
    """The projected stages of a board, each with its band and what it rests on; nothing is measured."""
    core = core_of(board)
    width, height = parse_size(size)
    codec = edgesem.load(bundle, 1, precision="fp32", runtime="cpu")
    frame = next(iter(islice(pictures(PHOTOS, (width, height)), 1)))
    macs = macs_by_kind(codec, frame, "fp32")  # int8 splits wide layers, whose halves each have all inputs
    stages: dict[str, dict[str, Any]] = {}
    for stage, part in _STAGES.items():
        span = network_span(core, macs[part], threads)
        by_count = instruction_span(core, counted.PER_MAC[stage] * sum(macs[part].values()))
        stages[stage] = _as_dict(span, "multiplications / published throughput")
        stages[stage]["by_instructions_s"] = by_count.likely_s if threads == 1 else None
        stages[stage]["mmac"] = sum(macs[part].values()) / 1e6
    for stage in _CODING:
        fixed, per_pixel = counted.PER_FRAME[stage]
        instructions = fixed + per_pixel * width * height
        stages[stage] = _as_dict(instruction_span(core, instructions), "instructions under emulation / assumed IPC")
        stages[stage]["minstructions"] = instructions / 1e6
    order = ("encode", "pack", "unpack", "step0")
    return {
        "projection": True,
        "board": board,
        "core": core.name,
        "size": size,
        "threads": threads,
        "quality": quality,
        "engine": {"runner": "onnxruntime CPU", "precision": "fp32"},
        "stages": {name: stages[name] for name in order},
        "energy": None,
        "notes": _notes(core, threads, quality, codec.bundle.digest),
    }


def _as_dict(span: Span, by: str) -> dict[str, Any]:
    return {"projected_s": span.likely_s, "low_s": span.low_s, "high_s": span.high_s, "by": by}


def _notes(core: Core, threads: int, quality: float, digest: str) -> list[str]:
    notes = [
        f"{core.name}, fp32 under ONNX Runtime; throughputs: {SOURCE}; the band holds the slowest and fastest "
        f"published network of the kind, and an ONNX Runtime {ORT_OVER_NCNN[0]:g} to {ORT_OVER_NCNN[2]:g} times "
        "slower than ncnn",
        "pack and unpack run on one thread; capture, send, heat and other load are not in it; energy is not projected",
    ]
    if quality != counted.QUALITY:
        notes.append(f"pack and unpack were counted at quality {counted.QUALITY:g}: more quality takes more")
    if digest != counted.BUNDLE:
        notes.append("instructions were counted on another bundle: do not lean on those of pack and unpack")
    if core.remark:
        notes.append(core.remark)
    if threads > core.cores:
        notes.append(f"the board has {core.cores} cores: {threads} threads are taken for {core.cores}")
    return notes

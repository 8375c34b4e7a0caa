"""Checks of a bundle; each is a function that gives its findings or raises.

digests, signature -> opset, operators -> 2^24 proof -> golden packets -> parity of every form -> TensorRT
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgesem.bundle.bundle import GOLDEN, Bundle
from edgesem.bundle.engine import FP16, INT8
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.engine_build import Sizes, build_plan
from edgesem.entropy.schedule import EXACT
from edgesem.errors import BundleError, EdgesemError, ExportError, MissingDependency, require
from edgesem.packet.packet import Packet
from edgesem.packet.signature import signer
from edgesem.quality.metrics import Frame
from export.graphs.exactness import LARGEST, context_graphs, packets_agree, planes_agree
from export.graphs.proof import largest_sum
from export.graphs.targets import MAX_IR_VERSION, OPSET, Target
from export.quantization.forms import evaluation_pieces, feeds
from export.quantization.quantize import PROFILES, calibrate, prepare, quantize, to_half
from export.quantization.replacement_cost import CostMeter

PACKETS = 24
_CAPABILITIES = ("SM86", "SM89", "SM120", "SM121")  # all of tensorrt_rtx from Orin's generation on; it refuses 8.7
_CALIBRATED = 8  # pictures; nobody uses these forms, they only have to build
_MAX_GOLDEN_BYTES = 1 << 20
_MAX_ERROR = 1000  # characters

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Check:
    """What a check found. ok is None when it could not be made; `findings` then says why."""

    name: str
    ok: bool | None
    seconds: float
    findings: dict[str, Any]


def verify(
    folder: Path,
    *,
    target: Target,
    frames: Sequence[Frame],
    trusted: str | None = None,
    tensorrt: bool = False,
    limit_percent: float = 2.0,
    packets: int = PACKETS,
    progress: Progress = lambda *_: None,
) -> list[Check]:
    """All checks of a bundle, each as far as the ones before it allow. `frames`: real pictures for parity; may be none.

    `packets`: how many of them every runner must read alike.

    Raises BundleError only when there is no manifest to speak of; whatever else is wrong is a check that failed.
    """
    opened: list[Bundle] = []

    def digests() -> dict[str, Any]:
        opened.append(Bundle.open(folder))
        return {"files": len(opened[0].files), "bundle_id": opened[0].id, "size_bytes": opened[0].size_bytes}

    checks = [_run("digests", digests)]
    if not opened:
        return checks
    bundle = opened[0]
    large = [frame for frame in frames if min(frame.shape[:2]) >= LARGEST]
    plan: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("signature", lambda: signature(bundle, trusted)),
        ("format", lambda: graph_format(bundle, target)),
        ("exactness proof", lambda: proof(bundle)),
        ("golden packets", lambda: golden(bundle)),
        ("runners agree", lambda: planes_agree(bundle)),
        ("packets agree", lambda: packets_agree(bundle, packets, large, progress)),
        ("parity", lambda: parity(bundle, frames, limit_percent)),
    ]
    if tensorrt:
        plan.append(("tensorrt", lambda: tensorrt_builds(bundle, frames, progress)))
    for index, (name, check) in enumerate(plan):
        progress(name, index / len(plan))
        checks.append(_run(name, check))
    return checks


def _run(name: str, check: Callable[[], dict[str, Any]]) -> Check:
    start = time.perf_counter()
    ok: bool | None
    try:
        findings = check()
        ok = None if "skipped" in findings else True
    except MissingDependency:
        raise
    except EdgesemError as error:
        ok, findings = False, {"error": str(error)}
    except Exception as error:  # right digests say nothing of what is in a file; every library stumbles in its own way
        log.info("%s", name, exc_info=error)
        ok, findings = False, {"error": f"the bundle is damaged: {type(error).__name__}: {error}"[:_MAX_ERROR]}
    return Check(name, ok, round(time.perf_counter() - start, 3), findings)


def signature(bundle: Bundle, trusted: str | None) -> dict[str, Any]:
    """Who signed the manifest. A bundle that nobody signed passes unless a key is asked for; it says so."""
    key = signer(bundle.manifest, trusted)
    if key is None:
        return {"skipped": "nobody has signed this bundle; `edgesem export --sign KEY` does"}
    return {"key": key, "trusted": trusted is not None}


def graph_format(bundle: Bundle, target: Target) -> dict[str, Any]:
    """Opset, IR version, and operators that the target takes, of every graph."""
    findings, wrong = {}, []
    for name in sorted(bundle.files):
        if not name.endswith(".onnx"):
            continue
        try:
            model = onnx.load(bundle.folder / name)
            onnx.checker.check_model(model)
        except Exception as error:  # onnx lets out protobuf's errors too
            wrong.append(f"{name} is no valid graph: {error}")
            continue
        opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        findings[name] = {"ir_version": model.ir_version, "opsets": opsets}
        if model.ir_version > MAX_IR_VERSION:
            wrong.append(f"{name} has IR version {model.ir_version}, above {MAX_IR_VERSION}")
        if opsets.get("ai.onnx", 0) > OPSET:
            wrong.append(f"{name} has opset {opsets['ai.onnx']}, above {OPSET}")
        for_tensorrt = name.endswith((INT8, FP16)) or (not name.startswith("context") and ".int8" not in name)
        if target.operators is not None and for_tensorrt:
            unknown = sorted({node.op_type for node in model.graph.node} - target.operators)
            if unknown:
                wrong.append(f"{name} has operators that {target.name} does not take: {', '.join(unknown)}")
        OrtRunner(bundle.folder / name)  # every graph must run on the CPU too
    if wrong:
        raise BundleError("; ".join(wrong))
    return {"target": target.name, "graphs": findings}


def proof(bundle: Bundle) -> dict[str, Any]:
    """The largest sum in each context graph, all below 2^24: every machine computes the same symbols."""
    largest = [largest_sum(path) for path in context_graphs(bundle)]
    return {"largest_sum": max(largest), "limit": EXACT}


def golden(bundle: Bundle) -> dict[str, Any]:
    """Packets that the exporting machine made decode here to the same symbols, layer by layer."""
    if GOLDEN not in bundle.files:
        return {"skipped": "this bundle has no golden packets; export it again"}
    path = bundle.folder / GOLDEN
    try:
        if path.stat().st_size > _MAX_GOLDEN_BYTES:
            raise BundleError(f"{path} is too large for a handful of packets")
        entries = [(bytes.fromhex(e["packet"]), list(e["latent_sha256"])) for e in json.loads(path.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} does not hold golden packets: {error!r}") from error
    codec = Codec(bundle, runtime="cpu")
    for index, (data, digests) in enumerate(entries):
        packet = Packet.from_bytes(data)
        named = packet.side_info.reference
        if named is not None and named.frame >= index:
            raise BundleError(f"golden packet {index} refers to packet {named.frame}, which does not come before it")
        reference = None if named is None else codec.unpack(Packet.from_bytes(entries[named.frame][0]))
        for layers, wanted in enumerate(digests, 1):
            if latent_digest(codec, packet.prefix(layers), reference) != wanted:
                raise BundleError(f"golden packet {index} means something else here, from {layers} layers")
    return {"packets": len(entries)}


def parity(bundle: Bundle, frames: Sequence[Frame], limit_percent: float) -> dict[str, Any]:
    """How far every other form of a graph is from its fp32 form on real pictures, and what that costs."""
    if not frames:
        return {"skipped": "parity needs real pictures: name a folder with --data"}
    meter = CostMeter(bundle, evaluation_pieces(frames))
    findings, wrong = {}, []
    for part in ("encoder", "decoder"):
        tests = feeds(bundle, part, evaluation_pieces(frames))
        plain = OrtRunner(bundle.folder / f"{part}.onnx")
        forms = [name for name in sorted(bundle.files) if name.startswith(f"{part}.") and name.endswith(".onnx")]
        for name in forms:
            runner = OrtRunner(bundle.folder / name, optimise=name != f"{part}.onnx")
            pairs = [(plain.run(feed), runner.run(feed)) for feed in tests]
            away = np.concatenate([np.abs(a[key] - b[key]).ravel() for a, b in pairs for key in a])
            row = {"max_error": float(away.max()), "p99_error": float(np.quantile(away, 0.99))}
            if name == f"{part}.onnx":  # against itself without any optimisation
                if not away.max() <= 1e-3:
                    wrong.append(f"{name} changes by {away.max():g} when ONNX Runtime optimises it")
            else:
                cost = meter.cost({part: runner})
                row |= cost.as_dict()
                if not cost.percent <= limit_percent:
                    wrong.append(f"{name} costs {cost.percent:.2f} % of rate, more than {limit_percent:g} %")
            findings[name] = row
    if wrong:
        raise BundleError("; ".join(wrong))
    return findings


def tensorrt_builds(bundle: Bundle, frames: Sequence[Frame], progress: Progress) -> dict[str, Any]:
    """Every graph parses, type-checks and builds with TensorRT-RTX, in fp16 and in int8, without a GPU.

    Each engine is for all of _CAPABILITIES at once. Forms that the bundle lacks are made for the trial, from real
    pictures where they need calibration.
    """
    trt = require("tensorrt_rtx", "rtx")
    offered = [name for name in _CAPABILITIES if hasattr(trt.ComputeCapability, name)]  # older ones know fewer
    findings: dict[str, Any] = {"tensorrt_rtx": str(trt.__version__), "compute_capabilities": offered}
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        graphs = _forms_for_tensorrt(bundle, frames, Path(scratch))
        for index, path in enumerate(graphs):
            progress(f"building {path.name}", index / len(graphs))
            try:
                plan = build_plan(trt, path, Sizes(), configure=partial(_aim, trt, offered))
                findings[path.name] = {"engine_bytes": len(plan)}
            except ExportError as error:
                wrong.append(str(error))
    if wrong:
        raise BundleError("; ".join(wrong))
    if not frames:
        findings["note"] = "without --data only fp16 and what the bundle holds in int8 was built"
    return findings


def _forms_for_tensorrt(bundle: Bundle, frames: Sequence[Frame], scratch: Path) -> list[Path]:
    profile = PROFILES["tensorrt"]
    graphs = context_graphs(bundle)
    for part in ("encoder", "decoder", "flow"):
        source = bundle.folder / f"{part}.onnx"
        if not source.exists():
            continue
        half, int8 = bundle.folder / f"{part}{FP16}", bundle.folder / f"{part}{INT8}"
        if half.name not in bundle.files:
            half = scratch / half.name
            to_half(source, half)
        graphs.append(half)
        if int8.name not in bundle.files and frames:
            prepared, int8 = scratch / f"{part}.prepared.onnx", scratch / int8.name
            prepare(source, prepared, profile)
            quantize(
                prepared,
                int8,
                calibrate(prepared, feeds(bundle, part, evaluation_pieces(frames)[:_CALIBRATED])),
                profile,
            )
        if int8.exists():
            graphs.append(int8)
    return graphs


def _aim(trt: Any, capabilities: Sequence[str], config: Any) -> None:
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)


def latent_digest(codec: Codec, packet: Packet, reference: Latent | None = None) -> str:
    """SHA-256 of a decoded latent: exact up to here; a picture's last bit may differ between machines."""
    return hashlib.sha256(np.ascontiguousarray(codec.unpack(packet, reference).values, "<f4").tobytes()).hexdigest()

"""Descriptions of packets and bundles as plain data: what `edgesem info` and `edgesem encode` print."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.runner import choose
from edgesem.entropy import kernel
from edgesem.errors import BundleError
from edgesem.packet.capture_time import capture_text
from edgesem.packet.packet import Packet


def describe_packet(packet: Packet, data: bytes) -> dict[str, Any]:
    """All that the header and the sizes of a packet say.

    captured: in UTC; unless `captured_exact`, the time nearest to now, since a header has milliseconds modulo 2^32.
    """
    return {
        "size_bytes": packet.size_bytes,
        "wire_bytes": packet.wire_bytes,
        "bpp": round(8 * packet.size_bytes / (packet.width * packet.height), 6),
        "width": packet.width,
        "height": packet.height,
        "q": packet.q,
        "layers": [len(chunk) for chunk in packet.chunks],
        "first_layer": packet.first_layer,
        "total_layers": packet.total_layers,
        "bundle_id": packet.bundle_id,
        "epoch": packet.epoch,
        "frame": packet.frame,
        "captured": capture_text(packet),
        "captured_exact": packet.side_info.time_high is not None,
        "sha256": hashlib.sha256(data).hexdigest(),
    } | ({"side_info": _side_info_of(packet)} if packet.side_info.size_bytes else {})


def _side_info_of(packet: Packet) -> dict[str, Any]:
    """The items of side information that a packet has.

    copied: the share of positions that are the reference's. moved: of its blocks, those that have moved, if any have.
    """
    side_info, copied = packet.side_info, packet.copied
    said: dict[str, Any] = {"size_bytes": side_info.size_bytes}
    if side_info.reference is not None:
        said["reference"] = {"frame": side_info.reference.frame, "layers": side_info.reference.layers}
        said["copied"] = 0.0 if copied is None else round(float(copied.mean()), 4)
        if (motion := packet.motion) is not None:
            said["moved"] = round(float(motion.any(2).mean()), 4)
    if side_info.background is not None:
        said["background"] = side_info.background.frame
    if side_info.embedding:
        said["embedding_bytes"] = len(side_info.embedding)
    if side_info.region is not None:
        said["region"] = asdict(side_info.region)
    if (event := side_info.event) is not None:
        marks = {"event": event.name, "place": event.place, "since_ms": event.since_ms, "cause": event.cause}
        said["event"] = {**marks, "last": event.last, "label": event.label}
    if side_info.detail is not None:
        said["detail"] = {"roi": side_info.detail.roi, "request": side_info.detail.request}
    return said


def bundle_of(packet: Packet) -> dict[str, Any] | None:
    """The bundle that made a packet, if it is the one that ships; of any other, only the id is known."""
    try:
        bundle = Bundle.open()
    except BundleError:
        return None
    if bundle.id != packet.bundle_id:
        return None
    return {"name": bundle.manifest.get("name"), "version": bundle.manifest.get("version"), "digest": bundle.digest}


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """Size, what would run each part here and why, cost of each part (null where there is none), and the manifest."""
    parts = {
        part: bundle.manifest.get(part) for part in ("encoder", "decoder", "decoder.large", "context", "flow", "head")
    }
    rest = {key: value for key, value in bundle.manifest.items() if key not in parts}
    here = {part: asdict(choose(bundle, part)) for part in parts if f"{part}.onnx" in bundle.files}
    here["entropy_coder"] = asdict(kernel.choose())
    sizes = {"size_bytes": bundle.size_bytes, "runs_here": here}
    backgrounds = len(bundle.backgrounds)
    return {"bundle_id": bundle.id, "digest": bundle.digest, **sizes, "backgrounds": backgrounds, **parts, **rest}


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """A description without what has a line for each file, trial or run of training: that is for machines."""
    long = [key for key in ("files", "int8", "parity", "training") if key in result]
    shown = {key: value for key, value in result.items() if key not in long}
    return {**shown, "more": f"{', '.join(long)}: with --json"} if long else shown

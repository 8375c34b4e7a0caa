"""Large decoder: added to a bundle that exists, measured against the small one; sender and packets stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from edgesem.bundle.bundle import DECODER, LARGE_DECODER, Bundle
from edgesem.bundle.runner import OrtRunner
from edgesem.errors import ExportError, InputError
from edgesem.packet.keys import Identity
from edgesem.quality.metrics import Frame
from export.bundle.folder import change, check_signed
from export.bundle.model import history_of
from export.graphs.cost import cost
from export.graphs.write import export_decoder
from export.quantization.forms import evaluation_pieces, feeds, speedup
from export.quantization.replacement_cost import CostMeter
from export.training.codec import CodecNet, load_weights
from export.training.large import LargeConfig, open_large
from export.training.loop import read_settings

PART = "decoder.large"
_SAME_CODEC = 0.02  # of 0..1: the bundle's graph holds weights as float16, the run does not
_FAITHFUL = 1e-3

Progress = Callable[[str, float], None]


def add_large_decoder(
    bundle: Bundle,
    run: Path,
    frames: Sequence[Frame],
    progress: Progress,
    identity: Identity | None = None,
    codec: Path | None = None,
) -> dict[str, Any]:
    """Put the large decoder of a training run, or of a file of weights, into a bundle; returns what the manifest says.

    That is its size, multiply-adds, and on `frames` what it costs in bytes at equal quality (negative: it gains) and
    how many times as long it takes as the small one. codec: weights, or the run, of the codec that it was trained for;
    if none, the run that its own run names, or codec.safetensors beside its file. Raises UsageError for a signed bundle
    without `identity`, InputError for a run of another codec than the bundle's, and ExportError if the graph is not
    what was trained.
    """
    check_signed(bundle, identity)
    if codec is None:
        codec = Path(read_settings(run, LargeConfig).codec) if run.is_dir() else run.with_name("codec.safetensors")
    trained = CodecNet()
    load_weights(trained, codec / "weights.safetensors" if codec.is_dir() else codec)
    feed = feeds(bundle, "decoder", frames[:1])[0]
    own = OrtRunner(bundle.folder / DECODER).run(feed)["picture"]
    with torch.no_grad():
        small = trained.decoder.eval()(*map(torch.from_numpy, feed.values())).numpy()
    if not float(np.abs(own - small).max()) <= _SAME_CODEC:
        raise InputError(f"{run} was trained for another codec than that of {bundle.folder}: its packets are others")
    net = open_large(run, trained.decoder)
    with TemporaryDirectory() as folder:
        graph = Path(folder) / LARGE_DECODER
        progress("writing the graph", 0.1)
        export_decoder(net, Path(folder), LARGE_DECODER)
        runner = OrtRunner(graph)
        with torch.no_grad():
            wanted = net(*map(torch.from_numpy, feed.values())).numpy()
        worst = float(np.abs(wanted - runner.run(feed)["picture"]).max())
        if not worst <= _FAITHFUL:
            raise ExportError(f"{LARGE_DECODER} differs from the trained network by {worst:g}")
        progress("measuring", 0.3)
        found = cost([graph]) | {"history": history_of(run) if run.is_dir() else [], "pictures": len(frames)}
        found |= CostMeter(bundle, evaluation_pieces(frames)).cost({"decoder": runner}).as_dict()
        found["times_as_long"] = round(1 / speedup(bundle.folder / DECODER, graph, feed), 2)
        change(bundle, {LARGE_DECODER: graph}, {PART: found}, identity)
    return found

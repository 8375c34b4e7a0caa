"""Convolutions of a VGG16 of Keras, out of an ONNX graph that has them, as the npz that `edgesem bench rd --vgg` takes.

    python3 bench/oxford_vgg16.py some_vgg16.onnx oxford_vgg16.npz

Keras has the weights of Oxford (Simonyan and Zisserman 2015), trained apart from those of torchvision, which LPIPS and
DISTS were made with and a flow decoder may be trained with: so they see a picture in another way, and their measure in
the manner of DISTS is a judge of its own. They take BGR of 0..255 less a mean colour. The npz is for RGB as torchvision
scales it, so the first convolution is changed to give the same for that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

CONVOLUTIONS = 13
MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
MEAN_RGB, SPREAD_RGB = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def main(source: Path, out: Path) -> None:
    """Write the npz."""
    graph = onnx.load(source).graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    if len(layers) != CONVOLUTIONS:
        sys.exit(f"{source} has {len(layers)} convolutions, VGG16 has {CONVOLUTIONS}")
    arrays: dict[str, Any] = {}
    for index, layer in enumerate(layers):
        weight, bias = (values[name].astype(np.float32) for name in layer.input[1:3])
        if index == 0:
            weight = weight[:, ::-1]
            bias = bias + (weight.sum((2, 3)) * (255 * MEAN_RGB - MEAN_BGR[::-1])).sum(1)
            weight = weight * (255 * SPREAD_RGB)[:, None, None]
        arrays[f"conv{index}.w"], arrays[f"conv{index}.b"] = weight, bias
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

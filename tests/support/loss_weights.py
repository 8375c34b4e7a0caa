"""Random weights of AlexNet and VGG16 in the files that perceptual losses read; they keep the size of a signal."""

from pathlib import Path

import numpy as np

ALEXNET = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]


def alexnet_file(path: Path) -> Path:
    """LPIPS with AlexNet, all channels weighing alike."""
    random, arrays = np.random.default_rng(0), {}
    for index, shape in enumerate(ALEXNET):
        arrays[f"conv{index}.w"] = (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float16)
        arrays[f"conv{index}.b"] = np.zeros(shape[0], np.float16)
        arrays[f"lin{index}"] = np.full(shape[0], 1 / shape[0], np.float16)
    np.savez(path, **arrays)
    return path


def vgg_arrays(count: int) -> dict[str, np.ndarray]:
    """VGG16's first `count` convolutions."""
    random, arrays, inputs = np.random.default_rng(0), {}, 3
    for index, width in enumerate((64, 64, 128, 128, 256, 256, 256, *[512] * 6)[:count]):
        arrays[f"conv{index}.w"] = (random.normal(size=(width, inputs, 3, 3)) * (2 / inputs / 9) ** 0.5).astype("f2")
        arrays[f"conv{index}.b"] = np.zeros(width, np.float16)
        inputs = width
    return arrays

"""Published throughputs of processors, which projections are based on.

Rows are from the ncnn project's benchmark page (fp32 networks at 224x224, 227x227 for squeezenet), read November 2026.
On the Cortex-A76 row ncnn computed in fp16, which those cores do twice as fast: `halve` takes it back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SOURCE = "Tencent/ncnn benchmark/README.md, 2023"
GMAC = {
    "mobilenet": 0.569,
    "mobilenet_v2": 0.300,
    "googlenet": 1.58,
    "resnet18": 1.82,
    "resnet50": 3.86,
    "vgg16": 15.47,
}
KIND = {"mobilenet": "separable", "mobilenet_v2": "separable"}

# How many times longer ONNX Runtime takes than ncnn, both fp32, on a Raspberry Pi 5: lowest, median and highest of 13
# networks (visionanalysis.org/articles/ncnn-fp32-vs-onnx-fp32-rpi5). YOLO11n and s in Ultralytics' guide: 1.9, 1.7.
ORT_OVER_NCNN = (1.25, 2.09, 2.87)


@dataclass(frozen=True)
class Core:
    """A board's processor.

    ipc: instructions a cycle in numpy and Python code, an assumption of ours: low, likely, high.
    seconds: network -> what one frame took there with (one thread, four threads).
    """

    name: str
    clock_hz: float
    cores: int
    ipc: tuple[float, float, float]
    seconds: dict[str, tuple[float, float]]
    halve: bool = False
    remark: str = ""

    def gmac_per_s(self, kind: str, threads: int) -> tuple[float, float, float]:
        """Lowest, typical (geometric mean) and highest throughput of networks of a kind, under ncnn in fp32."""
        rates = [self.rate(name, threads) for name in self.seconds if KIND.get(name, "dense") == kind]
        return min(rates), math.exp(sum(map(math.log, rates)) / len(rates)), max(rates)

    def rate(self, network: str, threads: int) -> float:
        """GMAC a second of one network; between one and four threads, as the power law through both."""
        one_s, four_s = self.seconds[network]
        gain = math.log(one_s / four_s) / math.log(4)
        rate = GMAC[network] / one_s * math.pow(min(threads, self.cores), gain)
        return rate / 2 if self.halve else rate


BOARDS = {
    "raspberry-pi-4": Core(
        "Cortex-A72 1.8 GHz",
        1.8e9,
        4,
        (0.7, 1.1, 1.6),
        {
            "mobilenet": (0.12432, 0.06117),
            "mobilenet_v2": (0.09348, 0.06188),
            "googlenet": (0.23594, 0.11435),
            "resnet18": (0.19110, 0.12312),
            "resnet50": (0.53411, 0.26283),
            "vgg16": (1.07185, 0.54709),
        },
    ),
    "raspberry-pi-5": Core(
        "Cortex-A76 2.4 GHz",
        2.4e9,
        4,
        (1.1, 1.8, 2.6),
        {
            "mobilenet": (0.04119, 0.01105),
            "mobilenet_v2": (0.02729, 0.00876),
            "googlenet": (0.11697, 0.03337),
            "resnet18": (0.06105, 0.01886),
            "resnet50": (0.18715, 0.05383),
            "vgg16": (0.33407, 0.10706),
        },
        halve=True,
        remark="throughput from an RK3588's four Cortex-A76 at 2.4 GHz, the Pi 5's cores with faster memory",
    ),
    "raspberry-pi-zero-2w": Core(
        "Cortex-A53 1.0 GHz",
        1.0e9,
        4,
        (0.4, 0.65, 0.95),
        {
            "mobilenet": (0.39394, 0.16319),
            "mobilenet_v2": (0.27423, 0.14739),
            "googlenet": (0.78039, 0.32445),
            "resnet18": (0.65469, 0.35345),
            "resnet50": (1.80279, 0.78263),
        },
    ),
}

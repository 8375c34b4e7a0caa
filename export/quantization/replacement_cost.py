"""Cost of running another graph in the place of a bundle's own: in bytes and decibels, on real pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.graph_runner import GraphRunner
from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS, Latent
from edgesem.quality.metrics import Frame, bd_rate, ms_ssim, ms_ssim_db, psnr

EVALUATED_LEVELS = (25, 110, 210)

Points = npt.NDArray[np.float64]
Coded = tuple[Frame, float, Latent]


@dataclass(frozen=True)
class Cost:
    """Cost of a replacement against the bundle's own fp32 graphs; positive is worse."""

    bd_rate_psnr_percent: float
    bd_rate_ms_ssim_percent: float
    psnr_db: float
    bits_percent: float

    @property
    def percent(self) -> float:
        """The larger of both rate differences at equal quality: what a target is compared with."""
        return max(self.bd_rate_psnr_percent, self.bd_rate_ms_ssim_percent)

    def as_dict(self) -> dict[str, float]:
        """The numbers by name, rounded, as they stand in a manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class CostMeter:
    """Measures replacements against the fp32 graphs of one bundle, on the same pictures and qualities."""

    def __init__(self, bundle: Bundle, frames: Sequence[Frame], levels: Sequence[int] = EVALUATED_LEVELS) -> None:
        self._bundle, self.frames, self._levels = bundle, frames, levels

    @cached_property
    def reference(self) -> Points:
        """float64 [levels, 3]: bits per pixel, PSNR and MS-SSIM in dB with the bundle's own graphs."""
        return self._points({})

    def cost(self, replaced: Mapping[str, GraphRunner]) -> Cost:
        """What `replaced` costs: a runner for each part ("encoder", "decoder") that it stands in for."""
        tested, own = self._points(replaced), self.reference
        rates = [bd_rate(_curve(own, index), _curve(tested, index)) for index in (1, 2)]
        by_psnr, by_ms_ssim = (float("inf") if rate is None else rate.percent for rate in rates)
        bits = float(100 * (tested[:, 0] / own[:, 0] - 1).mean())
        return Cost(by_psnr, by_ms_ssim, float((own[:, 1] - tested[:, 1]).mean()), bits)

    @cached_property
    def _coded(self) -> list[Coded]:
        return self._code(self._codec({}))

    def _codec(self, replaced: Mapping[str, GraphRunner]) -> Codec:
        codec = Codec(self._bundle, precision="fp32", runtime="cpu")
        for part, runner in replaced.items():
            codec.use(part, runner)
        return codec

    def _code(self, codec: Codec) -> list[Coded]:
        """Each picture at each quality, as a receiver has it: its frame, bits per pixel and decoded latent."""
        found = []
        for frame in self.frames:
            latent = codec.analyze(frame)
            for level in self._levels:
                packet, decoded = codec.pack_decoded(latent, quality=level / LEVELS)
                found.append((frame, 8 * packet.size_bytes / frame[..., 0].size, decoded))
        return found

    def _points(self, replaced: Mapping[str, GraphRunner]) -> Points:
        codec = self._codec(replaced)
        rows = []
        for frame, bpp, decoded in self._code(codec) if "encoder" in replaced else self._coded:
            picture = codec.synthesize(decoded)
            rows.append((bpp, psnr(frame, picture), ms_ssim_db(ms_ssim(frame, picture))))
        return np.array(rows).reshape(len(self.frames), len(self._levels), 3).mean(0)


def _curve(points: Points, index: int) -> list[tuple[float, float]]:
    return [(float(point[0]), float(point[index])) for point in points]

"""Drawing: the picture of a decoded latent, by a base decoder and the steps of the flow decoder.

Latent -> shrinkage of its level -> base decoder (small or large) -> flow decoder -> Frame
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import DECODER, FLOW, LARGE_DECODER, Bundle
from edgesem.bundle.graph_runner import GraphRunner, output_of
from edgesem.codec.flow import by_tiles, redraw
from edgesem.codec.frames import Frame
from edgesem.codec.latent import LEVELS, Latent, drawings
from edgesem.entropy.schedule import STRIDE
from edgesem.errors import BundleError, UsageError

MAX_STEPS = 4

DecoderSize = Literal["auto", "small", "large"]

Planes = npt.NDArray[np.float32]


class Drawing:
    """The decoders of a bundle. `open_graph(name)` gives the runner of a graph. As thread-safe as that is."""

    def __init__(self, bundle: Bundle, open_graph: Callable[[str], GraphRunner]) -> None:
        self._open, self._shrinkage = open_graph, bundle.shrinkage
        self.has_flow, self.has_large_decoder = FLOW in bundle.files, LARGE_DECODER in bundle.files

    def decoder_for(self, steps: int, decoder: DecoderSize) -> Literal["small", "large"]:
        """See `Codec.decoder_for`."""
        if decoder not in get_args(DecoderSize):
            raise UsageError(f"decoder must be auto, small or large, got {decoder!r}")
        if decoder == "large" and not self.has_large_decoder:
            raise UsageError("this bundle has no large decoder: use auto or small, or add one with edgesem add-decoder")
        if decoder == "large" and steps:
            raise UsageError("the flow decoder begins from the small decoder's picture: use it, or no steps")
        return "large" if decoder != "small" and self.has_large_decoder and not steps else "small"

    def draw(self, latent: Latent, steps: int, seed: int, realism: float, decoder: DecoderSize) -> Frame:
        """See `Codec.synthesize`."""
        base = LARGE_DECODER if self.decoder_for(steps, decoder) == "large" else DECODER
        if not 0 <= steps <= MAX_STEPS or not 0 <= realism <= 1 or seed < 0:
            raise UsageError(
                f"steps must be 0 to {MAX_STEPS}, realism 0 to 1, and the seed not negative, "
                f"got {steps}, {realism:g} and {seed}"
            )
        if steps and not self.has_flow:
            raise UsageError(f"steps must be 0, got {steps}: this bundle has no flow decoder")
        planes: Planes = np.zeros((), np.float32)
        for level, share in drawings(latent.levels):
            values = latent.values * self._shrinkage[level][:, None, None]
            drawn = self._base(values, level / LEVELS, base)
            if steps:
                finer = redraw(drawn, values, self._step, quality=level / LEVELS, steps=steps, seed=seed)
                drawn = drawn + np.float32(realism) * (finer - drawn)
            planes = drawn if share is None else planes + share * (drawn - planes)
        if np.isnan(planes.max()):
            raise BundleError("the decoder of the bundle gives no numbers for this latent: export it again")
        picture = np.empty((latent.height, latent.width, 3), np.uint8)
        for channel, plane in enumerate(planes):  # each by itself: a third of the memory
            grey = plane[: latent.height, : latent.width].clip(0, 1)
            grey *= 255
            picture[:, :, channel] = np.rint(grey, out=grey).astype(np.uint8)
        return picture

    def _step(self, feed: dict[str, Planes]) -> Planes:
        """A step of the flow decoder."""
        drawn: Planes = output_of(self._open(FLOW).run(feed), "picture", feed["state"].shape)[0]
        return drawn

    def _base(self, values: Planes, quality: float, graph: str) -> Planes:
        """What a base decoder draws of [96, h, w], float32 [3, 16h, 16w], about 0..1; large pictures by tiles."""
        runner = self._open(graph)
        level = np.full((1, 1, 1, 1), quality, np.float32)

        def draw(top: int, left: int, bottom: int, right: int) -> Planes:
            part = values[None, :, top // STRIDE : bottom // STRIDE, left // STRIDE : right // STRIDE]
            found = runner.run({"latent": np.ascontiguousarray(part), "quality": level})
            drawn: Planes = output_of(found, "picture", (1, 3, bottom - top, right - left))[0]
            return drawn

        return by_tiles(values.shape[1] * STRIDE, values.shape[2] * STRIDE, draw)

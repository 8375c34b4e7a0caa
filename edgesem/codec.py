"""The codec: a frame is analysed once, packed to any size afterwards, and drawn again on the other side.

Frame -> analyze -> Latent -> pack(budget) -> Packet -> unpack -> Latent -> synthesize -> Picture
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesem import rans
from edgesem.bundle import Bundle
from edgesem.context import (
    GROUPS,
    MEAN_GRID,
    PASSES,
    STRIDE,
    ContextModel,
    Values,
    context_graph,
    position_mask,
)
from edgesem.errors import BudgetError, BundleError, FrameError, PacketError, UsageError
from edgesem.packet import HEADER_BYTES, MAX_CHUNK_BYTES, MAX_PACKET_BYTES, MAX_SIDE, Packet
from edgesem.runner import OrtRunner

LEVELS = 255  # quality as it stands in a packet
MIN_SIDE = 16
MAX_TRIALS = 6
CLOSE_ENOUGH = 0.965  # a trial that fills so much of a budget ends the search
AIM = 0.985  # and this much is what a trial aims at

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Latent:
    """What the encoder sees in a frame, or what a packet said of it.

    values: float32 [96, ceil(height/16), ceil(width/16)], KLT order. level: the quality that a packet had, 0..255;
    None for a latent straight from the encoder, which has no rounding in it yet.
    """

    values: npt.NDArray[np.float32]
    width: int
    height: int
    level: int | None = None


@dataclass(frozen=True)
class Trial:
    """A latent rounded at one quality: what would be coded, and what it would cost.

    entries: table entries by layer and pass; bits: their ideal code length.
    """

    entries: list[list[Values]]
    bits: float

    @property
    def size_bytes(self) -> float:
        """The size that a packet of it will have, within a few bytes."""
        framing = HEADER_BYTES + 2 * (len(self.entries) - 1) + len(self.entries)
        return framing + (1.002 * self.bits + rans.LANE_BITS * rans.lanes_for(self.bits) + 16) / 8


class Codec:
    """Encoder and decoder of one bundle. Stateless between frames; graphs are loaded when they are first needed."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle, self._threads = bundle, threads
        self._runners: dict[str, OrtRunner] = {}
        self._gain, self._inverse_gain = bundle.gain, bundle.inverse_gain

    def _runner(self, name: str) -> OrtRunner:
        if name not in self._runners:
            self._runners[name] = OrtRunner(self.bundle.folder / name, self._threads)
        return self._runners[name]

    def analyze(self, frame: Frame) -> Latent:
        """The latent of a frame: uint8 [H, W, 3], RGB, sides 16..4096. Raises FrameError for anything else."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise FrameError(f"a frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
        height, width = frame.shape[:2]
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
            raise FrameError(
                f"a frame's sides must be {MIN_SIDE} to {MAX_SIDE} pixels, got {width}x{height}: resize it"
            )
        padded = np.pad(frame, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), "edge")
        planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        return Latent(self._runner("encoder.onnx").run({"frame": planes})["latent"][0], width, height)

    def pack(
        self,
        latent: Latent,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        layers: int = len(GROUPS),
        epoch: int = 0,
        frame: int = 0,
        time_ms: int = 0,
    ) -> Packet:
        """The packet of a latent, at a quality of 0..1 or of the most quality that `budget_bytes` holds.

        The budget counts the packet as one piece (`Packet.size_bytes`); it is met within 5 % and never exceeded, with
        fewer layers than `layers` if the coarsest quality does not fit otherwise. The encoder network does not run
        again. Raises BudgetError, which says the smallest size, and UsageError unless exactly one of budget and
        quality is given, or for a quality that makes more than a packet can hold.
        """
        if (budget_bytes is None) == (quality is None):
            raise UsageError("pack takes either budget_bytes or quality")
        if budget_bytes is not None and budget_bytes < 1:
            raise UsageError(f"budget_bytes must be positive, got {budget_bytes}")
        if not 1 <= layers <= len(GROUPS):
            raise UsageError(f"layers must be 1 to {len(GROUPS)}, got {layers}")
        if budget_bytes is not None:
            level, chunks = self._fit(latent, budget_bytes, layers)
        else:
            assert quality is not None
            if not 0 <= quality <= 1:
                raise UsageError(f"quality must be 0 to 1, got {quality}")
            level = round(quality * LEVELS)
            chunks = self._code(self.trial(latent, level, layers))
            if _share_of_format(chunks) > 1:
                raise UsageError(
                    f"quality {quality:g} makes {_size(chunks)} bytes of this {latent.width}x{latent.height} picture, "
                    f"and a layer may have {MAX_CHUNK_BYTES}: lower the quality, name a budget or shrink the picture"
                )
        return Packet(
            bundle_id=self.bundle.id,
            epoch=epoch,
            frame=frame,
            time_ms=time_ms,
            width=latent.width,
            height=latent.height,
            q=level,
            total_layers=len(chunks),
            first_layer=0,
            chunks=tuple(chunks),
        )

    def trial(self, latent: Latent, level: int, layers: int = len(GROUPS)) -> Trial:
        """Round a latent at one quality (0..255) and look up what its symbols cost, without coding them."""
        tables = self.bundle.tables
        target = latent.values * self._gain[level][:, None, None]
        entries: list[list[Values]] = [[] for _ in range(layers)]

        def fill(index: int, mean: Values, scale: Values) -> Values:
            sweep = PASSES[index]
            wanted = target[sweep.start : sweep.stop, position_mask(index, *target.shape[1:])].ravel()
            symbol: Values = np.rint(wanted - mean / np.float32(MEAN_GRID)).astype(np.int32)
            radius = tables.radius[scale]
            np.clip(symbol, -radius, radius, out=symbol)
            coded = radius > 0
            entries[sweep.group].append(tables.entry(symbol[coded], scale[coded]))
            return symbol

        self._context.walk(target.shape[1], target.shape[2], level, layers, fill)
        bits = sum(float(tables.bits[e].sum()) for passes in entries for e in passes)
        return Trial(entries, bits)

    @property
    def _context(self) -> ContextModel:
        return ContextModel([self._runner(context_graph(index)) for index in range(len(PASSES))])

    def _fit(self, latent: Latent, budget_bytes: int, layers: int) -> tuple[int, list[bytes]]:
        """Level and chunks of the finest trial whose real size fits.

        All pictures' sizes follow nearly the same curve over the level (`Bundle.rate_curve`), moved up or down. Each
        trial tells how far at one level, so two or three find the place.
        """
        fits, too_big = -1, LEVELS + 1  # the finest level known to fit, the coarsest known not to
        best: Trial | None = None
        chunks: list[
            bytes
        ] = []  # of the best trial, unless it is far from full: that one is coded only if it stays best
        moved: dict[int, float] = {}
        offset = np.full(LEVELS + 1, self._guess(latent) - math.log(budget_bytes))
        for _ in range(MAX_TRIALS):
            small = np.flatnonzero(self.bundle.rate_curve + offset <= math.log(AIM))
            level = min(max(int(small.max(initial=0)), fits + 1), too_big - 1)
            trial = self.trial(latent, level, layers)
            fill = trial.size_bytes / budget_bytes
            near = CLOSE_ENOUGH - 0.03 <= fill <= 1 or trial.bits / 8 > MAX_CHUNK_BYTES
            coded = self._code(trial) if near and fill <= 1 else []
            if coded:
                fill = max(_size(coded) / budget_bytes, _share_of_format(coded))
            if fill > 1:
                too_big = level
            else:
                fits, best, chunks = level, trial, coded
            if CLOSE_ENOUGH <= fill <= 1 or too_big - fits <= 1:
                break
            moved[level] = math.log(fill) - self.bundle.rate_curve[level]
            known = sorted(moved)
            offset = np.interp(np.arange(LEVELS + 1), known, [moved[k] for k in known])
        if best is not None:
            return fits, chunks or self._code(best)
        smallest = self._code(self.trial(latent, 0, layers))
        if _size(smallest) <= budget_bytes:
            return 0, smallest
        if layers > 1:
            return self._fit(latent, budget_bytes, layers - 1)
        raise BudgetError(
            f"{budget_bytes} bytes do not hold a picture of {latent.width}x{latent.height}, {_size(smallest)} would: "
            "raise the budget or send a smaller picture",
            smallest_bytes=_size(smallest),
        )

    def _guess(self, latent: Latent) -> float:
        """How far this picture's sizes lie above the rate curve, before any trial (natural log)."""
        offset, factor = self.bundle.rate_guess
        positions = latent.values[0].size
        return float(offset + factor * math.log(activity(latent, self._gain)) + math.log(positions))

    def _code(self, trial: Trial) -> list[bytes]:
        return rans.encode(trial.entries, self.bundle.tables, rans.lanes_for(trial.bits))

    def unpack(self, packet: Packet) -> Latent:
        """The latent that a packet describes, from as many layers as it carries from the base on.

        Raises BundleError if the packet was made with another bundle, and PacketError if its symbols do not hold
        together.
        """
        if packet.bundle_id != self.bundle.id:
            raise BundleError(
                f"the packet was made with bundle {packet.bundle_id}, this is bundle {self.bundle.id}: "
                "load the bundle of its sender"
            )
        if packet.first_layer != 0:
            raise PacketError(f"packet: starts at layer {packet.first_layer}, the base layer is missing")
        tables = self.bundle.tables
        decoder = rans.Decoder(packet.chunks, tables)

        def fill(index: int, mean: Values, scale: Values) -> Values:
            coded = tables.radius[scale] > 0
            symbols = np.zeros(scale.shape, np.int32)
            entries = decoder.read(scale[coded])
            symbols[coded] = tables.symbol(entries, scale[coded])
            return symbols

        height, width = -(-packet.height // STRIDE), -(-packet.width // STRIDE)
        values = self._context.walk(height, width, packet.q, len(packet.chunks), fill)
        if len(packet.chunks) == packet.total_layers:
            decoder.finish()
        latent = values.astype(np.float32) / MEAN_GRID * self._inverse_gain[packet.q][:, None, None]
        return Latent(latent, packet.width, packet.height, packet.q)

    def synthesize(self, latent: Latent, *, steps: int = 0, seed: int = 0, realism: float = 1.0) -> Frame:
        """The picture of a latent, uint8 [H, W, 3], RGB. Step 0 is the base decoder; this bundle format has no other
        yet.

        Raises UsageError for steps that the bundle has no decoder for.
        """
        if steps != 0:
            raise UsageError(f"steps must be 0, got {steps}: this bundle has no flow decoder")
        level = LEVELS if latent.level is None else latent.level
        feed = {"latent": latent.values[None], "quality": np.full((1, 1, 1, 1), level / LEVELS, np.float32)}
        planes = self._runner("decoder.onnx").run(feed)["picture"][0]
        picture = np.rint(planes.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(picture[: latent.height, : latent.width])

    def encode(
        self, frame: Frame, *, budget_bytes: int | None = None, quality: float | None = None, layers: int = len(GROUPS)
    ) -> bytes:
        """A frame as the bytes of its packet: analyze and pack in one."""
        return self.pack(self.analyze(frame), budget_bytes=budget_bytes, quality=quality, layers=layers).to_bytes()

    def decode(self, data: bytes, *, layers: int | None = None, steps: int = 0) -> Frame:
        """The picture in a packet's bytes, from all its layers or the first few: unpack and synthesize in one."""
        packet = Packet.from_bytes(data)
        return self.synthesize(self.unpack(packet if layers is None else packet.prefix(layers)), steps=steps)


def load(path: str | Path | None = None, threads: int = 1) -> Codec:
    """The codec of the bundle in `path`, or of the default bundle. Raises BundleError when there is none."""
    return Codec(Bundle.open(path), threads)


def activity(latent: Latent, gain: npt.NDArray[np.float32]) -> float:
    """Bits a position that Gaussian channels of this spread would cost at the middle quality: a cheap forecast."""
    scaled = latent.values[:, ::2, ::2] * gain[LEVELS // 2][:, None, None]
    return float(np.log2(1 + scaled**2).sum() / 2 / scaled[0].size) + 1e-3


def _share_of_format(chunks: list[bytes]) -> float:
    """How much of the largest packet there can be these chunks fill; above 1 they fit none."""
    return max(_size(chunks) / MAX_PACKET_BYTES, *(len(chunk) / MAX_CHUNK_BYTES for chunk in chunks))


def _size(chunks: list[bytes]) -> int:
    return HEADER_BYTES + 2 * (len(chunks) - 1) + sum(map(len, chunks))

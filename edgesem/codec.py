"""The codec: a frame is analysed once, packed to any size afterwards, and drawn again on the other side.

Frame -> analyze -> Latent -> pack(budget) -> Packet -> unpack -> Latent -> synthesize -> Picture
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesem import rans
from edgesem.bundle import Bundle
from edgesem.context import (
    CHANNELS,
    GROUPS,
    MEAN_GRID,
    PASSES,
    STRIDE,
    ContextModel,
    Pass,
    Values,
    context_graph,
    positions,
    reference_graph,
)
from edgesem.errors import BudgetError, BundleError, FrameError, MissingReference, PacketError, UsageError
from edgesem.flow import by_tiles, redraw
from edgesem.notes import NOTHING, Notes, Region
from edgesem.packet import HEADER_BYTES, MAX_CHUNK_BYTES, MAX_PACKET_BYTES, MAX_SIDE, Packet
from edgesem.reference import in_steps
from edgesem.runner import Precision, Runner, Runtime, open_runner
from edgesem.tables import Tables

LEVELS = 255  # quality as it stands in a packet
MIN_SIDE = 16
MAX_TRIALS = 6
MAX_STEPS = 4
FLOW = "flow.onnx"  # a bundle may lack it
CLOSE_ENOUGH = 0.965  # a trial that fills so much of a budget ends the search
AIM = 0.985  # and this much is what a trial aims at
CUT_SHARE = 0.6  # of what a key packet is expected to have: smaller ones surely do well to refer
SAVING = 3.0  # how much smaller a packet with a reference is than a key packet, before anything is known of its like

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

    entries: table entries by layer and pass; bits: their ideal code length; decoded: the latent that a receiver gets.
    """

    entries: list[list[Values]]
    bits: float
    decoded: Latent
    tables: Tables

    @property
    def size_bytes(self) -> float:
        """The size that a packet of it will have without notes, within a few bytes."""
        framing = HEADER_BYTES + 2 * (len(self.entries) - 1) + len(self.entries)
        return framing + (1.002 * self.bits + rans.LANE_BITS * rans.lanes_for(self.bits) + 16) / 8


class Codec:
    """Encoder and decoder of one bundle. Stateless between frames; graphs are loaded when they are first needed."""

    def __init__(
        self, bundle: Bundle, threads: int = 1, *, precision: Precision = "auto", runtime: Runtime = "auto"
    ) -> None:
        self.bundle, self._threads = bundle, threads
        self._precision, self._runtime = precision, runtime
        self._runners: dict[str, Runner] = {}
        self._gain, self._inverse_gain = bundle.gain, bundle.inverse_gain

    def use(self, part: str, runner: Runner) -> None:
        """Let `runner` do the work of a part ("encoder", "decoder") from now on, whatever the bundle has for it."""
        self._runners[f"{part}.onnx"] = runner

    def _runner(self, name: str) -> Runner:
        if name not in self._runners:
            part = name.removesuffix(".onnx")
            self._runners[name] = open_runner(self.bundle, part, self._threads, self._precision, self._runtime)
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
        like: Packet | None = None,
        notes: Notes = NOTHING,
        reference: Latent | None = None,
        epoch: int = 0,
        frame: int = 0,
        time_ms: int = 0,
    ) -> Packet:
        """The packet of a latent, at a quality of 0..1 or of the most quality that `budget_bytes` holds.

        The budget counts the packet as one piece (`Packet.size_bytes`); it is met within 5 % and never exceeded, with
        fewer layers than `layers` if the coarsest quality does not fit otherwise. The encoder network does not run
        again. `like`, a packet of a similar picture such as the frame before, tells where to start looking and saves
        about every second trial. `notes` travel with it, within the budget; a region in them is coded finer than the
        rest. With `reference`, the decoded latent of the frame that `notes.reference` names, only what is different is
        coded, and a receiver needs that latent too. Raises BudgetError, which says the smallest size, and UsageError
        unless exactly one of budget and quality is given, or for a quality that makes more than a packet can hold.
        """
        return self.pack_decoded(
            latent,
            budget_bytes=budget_bytes,
            quality=quality,
            layers=layers,
            like=like,
            notes=notes,
            reference=reference,
            epoch=epoch,
            frame=frame,
            time_ms=time_ms,
        )[0]

    def pack_decoded(
        self,
        latent: Latent,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        layers: int = len(GROUPS),
        like: Packet | None = None,
        notes: Notes = NOTHING,
        reference: Latent | None = None,
        epoch: int = 0,
        frame: int = 0,
        time_ms: int = 0,
    ) -> tuple[Packet, Latent]:
        """As `pack`, and the latent that a receiver decodes from it: what a later packet may refer to."""
        if (budget_bytes is None) == (quality is None):
            raise UsageError("pack takes either budget_bytes or quality")
        if budget_bytes is not None and budget_bytes < 1:
            raise UsageError(f"budget_bytes must be positive, got {budget_bytes}")
        if not 1 <= layers <= len(GROUPS):
            raise UsageError(f"layers must be 1 to {len(GROUPS)}, got {layers}")
        self._check_reference(latent, notes, reference)
        if budget_bytes is not None:
            level, chunks, trial = self._fit(latent, budget_bytes, layers, like, notes, reference)
        else:
            assert quality is not None
            if not 0 <= quality <= 1:
                raise UsageError(f"quality must be 0 to 1, got {quality}")
            level = round(quality * LEVELS)
            trial = self.trial(latent, level, layers, notes.region, reference)
            chunks = self._code(trial)
            if _share_of_format(chunks) > 1:
                raise UsageError(
                    f"quality {quality:g} makes {_size(chunks)} bytes of this {latent.width}x{latent.height} picture, "
                    f"and a layer may have {MAX_CHUNK_BYTES}: lower the quality, name a budget or shrink the picture"
                )
        packet = Packet(
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
            notes=notes,
        )
        return packet, trial.decoded

    def trial(
        self,
        latent: Latent,
        level: int,
        layers: int = len(GROUPS),
        region: Region | None = None,
        reference: Latent | None = None,
    ) -> Trial:
        """Round a latent at one quality (0..255) and look up what its symbols cost, without coding them."""
        tables = self._tables(reference)
        height, width = latent.values.shape[1:]
        levels = _levels(height, width, level, region)
        floor = scale_floor(tables, reference)
        target = (latent.values * _by_position(self._gain, levels)).reshape(CHANNELS, -1)
        entries: list[list[Values]] = [[] for _ in range(layers)]

        def fill(index: int, mean: Values, scale: Values) -> Values:
            sweep = PASSES[index]
            scale = at_least(scale, floor, sweep)
            wanted = target[sweep.start : sweep.stop, positions(index, height, width)].ravel()
            symbol: Values = np.rint(wanted - mean / np.float32(MEAN_GRID)).astype(np.int32)
            radius = tables.radius[scale]
            np.clip(symbol, -radius, radius, out=symbol)
            coded = radius > 0
            entries[sweep.group].append(tables.entry(symbol[coded], scale[coded]))
            return symbol

        values = self._context(levels, reference).walk(levels, layers, fill)
        bits = sum(float(tables.bits[e].sum()) for passes in entries for e in passes)
        return Trial(entries, bits, self._decoded(values, levels, latent.width, latent.height, level), tables)

    @property
    def has_reference(self) -> bool:
        """Whether packets may refer to earlier pictures: not every bundle can."""
        return self.bundle.has_reference

    def _check_reference(self, latent: Latent, notes: Notes, reference: Latent | None) -> None:
        if (notes.reference is None) != (reference is None):
            raise UsageError("a reference goes with notes that name its frame, and such notes with a reference")
        if reference is None:
            return
        if not self.has_reference:
            raise UsageError("this bundle cannot refer to earlier pictures: export one with --reference")
        if reference.values.shape != latent.values.shape:
            raise UsageError(
                f"a reference of {reference.width}x{reference.height} is of no use to a picture of "
                f"{latent.width}x{latent.height}"
            )

    def _tables(self, reference: Latent | None) -> Tables:
        return self.bundle.tables if reference is None else self.bundle.reference_tables

    def _context(self, levels: Values, reference: Latent | None) -> ContextModel:
        if reference is None:
            return ContextModel([self._runner(context_graph(index)) for index in range(len(PASSES))])
        runners = [self._runner(reference_graph(index)) for index in range(len(PASSES))]
        return ContextModel(runners, in_steps(reference, _by_position(self._gain, levels)), reference.level or 0)

    def _decoded(self, values: Values, levels: Values, width: int, height: int, level: int) -> Latent:
        latent = np.divide(values, MEAN_GRID, dtype=np.float32) * _by_position(self._inverse_gain, levels)
        return Latent(latent, width, height, level)

    def _fit(
        self,
        latent: Latent,
        budget_bytes: int,
        layers: int,
        like: Packet | None,
        notes: Notes,
        reference: Latent | None,
    ) -> tuple[int, list[bytes], Trial]:
        """Level, chunks and trial of the finest trial whose real size fits.

        All pictures' sizes follow nearly the same curve over the level (`Bundle.rate_curve`), moved up or down. Each
        trial tells how far at one level, so two or three find the place.
        """
        fits, too_big = -1, LEVELS + 1  # the finest level known to fit, the coarsest known not to
        best: Trial | None = None
        chunks: list[bytes] = []  # of the best trial, unless that is far from full: it is coded only if it stays best
        moved: dict[int, float] = {}
        offset = np.full(LEVELS + 1, self._guess(latent, like, refers=reference is not None) - math.log(budget_bytes))
        for _ in range(MAX_TRIALS):
            small = np.flatnonzero(self.bundle.rate_curve + offset <= math.log(AIM))
            level = min(max(int(small.max(initial=0)), fits + 1), too_big - 1)
            trial = self.trial(latent, level, layers, notes.region, reference)
            fill = (trial.size_bytes + notes.size_bytes) / budget_bytes
            near = CLOSE_ENOUGH - 0.03 <= fill <= 1 or trial.bits / 8 > MAX_CHUNK_BYTES
            coded = self._code(trial) if near and fill <= 1 else []
            if coded:
                fill = max((_size(coded) + notes.size_bytes) / budget_bytes, _share_of_format(coded))
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
            return fits, chunks or self._code(best), best
        trial = self.trial(latent, 0, layers, notes.region, reference)
        smallest = self._code(trial)
        smallest_bytes = _size(smallest) + notes.size_bytes
        if smallest_bytes <= budget_bytes:
            return 0, smallest, trial
        if layers > 1:
            return self._fit(latent, budget_bytes, layers - 1, like, notes, reference)
        raise BudgetError(
            f"{budget_bytes} bytes do not hold a picture of {latent.width}x{latent.height}, {smallest_bytes} would: "
            "raise the budget or send a smaller picture",
            smallest_bytes=smallest_bytes,
        )

    def _guess(self, latent: Latent, like: Packet | None, *, refers: bool = False) -> float:
        """How far this picture's sizes lie above the rate curve, before any trial (natural log)."""
        if like is not None and (like.width, like.height) == (latent.width, latent.height):
            return math.log(like.size_bytes) - float(self.bundle.rate_curve[like.q])
        offset, factor = self.bundle.rate_guess
        positions = latent.values[0].size / (SAVING if refers else 1)
        return float(offset + factor * math.log(activity(latent, self._gain)) + math.log(positions))

    def is_cut(self, latent: Latent, packet: Packet) -> bool:
        """Whether a key packet of this latent, of the same quality, would be no larger than `packet`, which refers."""
        expected = math.exp(self._guess(latent, None) + float(self.bundle.rate_curve[packet.q]))
        if packet.size_bytes < CUT_SHARE * expected:
            return False
        trial = self.trial(latent, packet.q, packet.total_layers, packet.notes.region)
        return trial.size_bytes + replace(packet.notes, reference=None).size_bytes <= packet.size_bytes

    def _code(self, trial: Trial) -> list[bytes]:
        return rans.encode(trial.entries, trial.tables, rans.lanes_for(trial.bits))

    def unpack(self, packet: Packet, reference: Latent | None = None) -> Latent:
        """The latent that a packet describes, from as many layers as it carries from the base on.

        `reference` is the decoded latent that `packet.notes.reference` names, from exactly as many layers as it says.
        Raises BundleError if the packet was made with another bundle, MissingReference if it needs a reference and gets
        none, and PacketError if its symbols do not hold together.
        """
        if packet.bundle_id != self.bundle.id:
            raise BundleError(
                f"the packet was made with bundle {packet.bundle_id}, this is bundle {self.bundle.id}: "
                "load the bundle of its sender"
            )
        if packet.first_layer != 0:
            raise PacketError(f"packet: starts at layer {packet.first_layer}, the base layer is missing")
        height, width = -(-packet.height // STRIDE), -(-packet.width // STRIDE)
        reference = self._needed(packet, reference, (CHANNELS, height, width))
        tables = self._tables(reference)
        floor = scale_floor(tables, reference)
        decoder = rans.Decoder(packet.chunks, tables)

        def fill(index: int, mean: Values, scale: Values) -> Values:
            scale = at_least(scale, floor, PASSES[index])
            coded = tables.radius[scale] > 0
            symbols = np.zeros(scale.shape, np.int32)
            entries = decoder.read(scale[coded])
            symbols[coded] = tables.symbol(entries, scale[coded])
            return symbols

        levels = _levels(height, width, packet.q, packet.notes.region)
        values = self._context(levels, reference).walk(levels, len(packet.chunks), fill)
        if len(packet.chunks) == packet.total_layers:
            decoder.finish()
        return self._decoded(values, levels, packet.width, packet.height, packet.q)

    def _needed(self, packet: Packet, reference: Latent | None, shape: tuple[int, int, int]) -> Latent | None:
        """The reference that a packet is decoded with, None if it is a key packet."""
        named = packet.notes.reference
        if named is None:
            return None
        if not self.has_reference:
            raise PacketError("packet: refers to an earlier picture, which this bundle cannot")
        if reference is None:
            raise MissingReference(
                f"packet: frame {packet.frame} refers to {named.layers} layers of frame {named.frame}, which is not "
                "here: ask the sender for a key packet"
            )
        if reference.level is None or reference.values.shape != shape:
            raise PacketError(f"packet: frame {named.frame} is no reference for a picture of this size")
        return reference

    @property
    def has_flow(self) -> bool:
        """Whether the bundle holds a flow decoder, so that `synthesize` takes steps."""
        return FLOW in self.bundle.files

    def synthesize(self, latent: Latent, *, steps: int = 0, seed: int = 0, realism: float = 1.0) -> Frame:
        """The picture of a latent, uint8 [H, W, 3], RGB. Step 0 is the base decoder; more let the flow decoder draw.

        The same latent, steps and seed give the same picture. `realism` in 0..1 lies between the base picture and all
        that was drawn. Raises UsageError for what is out of range, or steps that the bundle has no decoder for.
        """
        if not 0 <= steps <= MAX_STEPS or not 0 <= realism <= 1 or seed < 0:
            raise UsageError(
                f"steps must be 0 to {MAX_STEPS}, realism 0 to 1, and the seed not negative, "
                f"got {steps}, {realism:g} and {seed}"
            )
        if steps and not self.has_flow:
            raise UsageError(f"steps must be 0, got {steps}: this bundle has no flow decoder")
        quality = (LEVELS if latent.level is None else latent.level) / LEVELS
        planes = self._base(latent, quality)
        if steps:
            flow = self._runner(FLOW)
            drawn = redraw(
                planes,
                latent.values,
                lambda feed: flow.run(feed)["picture"][0],
                quality=quality,
                steps=steps,
                seed=seed,
            )
            planes = planes + np.float32(realism) * (drawn - planes)
        picture = np.rint(planes.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(picture[: latent.height, : latent.width])

    def _base(self, latent: Latent, quality: float) -> npt.NDArray[np.float32]:
        """What the base decoder draws, float32 [3, 16h, 16w], about 0..1; large pictures by tiles."""
        runner = self._runner("decoder.onnx")
        level = np.full((1, 1, 1, 1), quality, np.float32)

        def draw(top: int, left: int, bottom: int, right: int) -> npt.NDArray[np.float32]:
            part = latent.values[None, :, top // STRIDE : bottom // STRIDE, left // STRIDE : right // STRIDE]
            drawn: npt.NDArray[np.float32] = runner.run({"latent": np.ascontiguousarray(part), "quality": level})[
                "picture"
            ][0]
            return drawn

        return by_tiles(latent.values.shape[1] * STRIDE, latent.values.shape[2] * STRIDE, draw)

    def encode(
        self, frame: Frame, *, budget_bytes: int | None = None, quality: float | None = None, layers: int = len(GROUPS)
    ) -> bytes:
        """A frame as the bytes of its packet: analyze and pack in one."""
        return self.pack(self.analyze(frame), budget_bytes=budget_bytes, quality=quality, layers=layers).to_bytes()

    def decode(
        self, data: bytes, *, layers: int | None = None, steps: int = 0, seed: int = 0, realism: float = 1.0
    ) -> Frame:
        """The picture in a packet's bytes, from all its layers or the first few: unpack and synthesize in one."""
        packet = Packet.from_bytes(data)
        latent = self.unpack(packet if layers is None else packet.prefix(layers))
        return self.synthesize(latent, steps=steps, seed=seed, realism=realism)


def load(
    path: str | Path | None = None, threads: int = 1, *, precision: Precision = "auto", runtime: Runtime = "auto"
) -> Codec:
    """The codec of the bundle in `path`, or of the default bundle. Raises BundleError when there is none.

    precision: "auto", "fp32" or "int8"; runtime: "auto", "cpu", "cuda", "ort-tensorrt" or "tensorrt" (edgesem.runner).
    """
    return Codec(Bundle.open(path), threads, precision=precision, runtime=runtime)


def scale_floor(tables: Tables, reference: Latent | None) -> int:
    """The least scale index of the base layer of a packet with a reference: the first whose table codes anything.

    Where nothing was expected to change, something still may, and must be said somewhere: once the base layer tells,
    the others follow.
    """
    return 0 if reference is None else int(np.argmax(tables.radius > 0))


def at_least(scale: Values, floor: int, sweep: Pass) -> Values:
    """Scale indices of a pass, those of the base layer not below `floor`."""
    return np.maximum(scale, floor) if floor and sweep.group == 0 else scale


def activity(latent: Latent, gain: npt.NDArray[np.float32]) -> float:
    """Bits a position that Gaussian channels of this spread would cost at the middle quality: a cheap forecast."""
    scaled = latent.values[:, ::2, ::2] * gain[LEVELS // 2][:, None, None]
    return float(np.log2(1 + scaled**2).sum() / 2 / scaled[0].size) + 1e-3


def _levels(height: int, width: int, level: int, region: Region | None) -> Values:
    """int32 [height, width]: the quality of each position, coarser outside of a region."""
    levels = np.full((height, width), level, np.int32)
    if region is not None:
        levels[:] = max(0, level - region.drop)
        levels[region.top : region.bottom + 1, region.left : region.right + 1] = level
    return levels


def _by_position(gain: npt.NDArray[np.float32], levels: Values) -> npt.NDArray[np.float32]:
    """float32 [96, h, w], or [96, 1, 1] if all positions have one quality: the rows of `gain` [256, 96]."""
    if (levels == levels[0, 0]).all():
        return np.asarray(gain[levels[0, 0]][:, None, None])
    return np.asarray(gain[levels].transpose(2, 0, 1))


def _share_of_format(chunks: list[bytes]) -> float:
    """How much of the largest packet there can be these chunks fill; above 1 they fit none."""
    return max(_size(chunks) / MAX_PACKET_BYTES, *(len(chunk) / MAX_CHUNK_BYTES for chunk in chunks))


def _size(chunks: list[bytes]) -> int:
    return HEADER_BYTES + 2 * (len(chunks) - 1) + sum(map(len, chunks))

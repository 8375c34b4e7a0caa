"""The codec: a frame is analysed once, packed to any size afterwards, and drawn again on the other side.

Frame -> analyze -> Latent -> pack(budget) -> Packet -> unpack -> Latent -> synthesize -> Frame
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.graph_runner import GraphRunner, output_of
from edgesem.bundle.pixel_input import feed_of
from edgesem.bundle.runner import Precision, Runtime
from edgesem.codec import budget
from edgesem.codec.background import Backgrounds
from edgesem.codec.coder import Coder
from edgesem.codec.copying import Differences
from edgesem.codec.drawing import DecoderSize, Drawing
from edgesem.codec.frames import Frame, check_frame
from edgesem.codec.graphs import Graphs
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import DEFAULT_OPTIONS, PackOptions
from edgesem.codec.trial import Trial
from edgesem.entropy.schedule import CHANNELS, GROUPS, STRIDE
from edgesem.errors import BudgetError, BundleError, PacketError, UsageError
from edgesem.packet.packet import MAX_CHUNK_BYTES, MAX_PACKET_BYTES, Packet

if TYPE_CHECKING:
    from typing_extensions import Self


class Codec:
    """Encoder and decoder of one bundle.

    It keeps nothing between frames but the networks, which are loaded when they are first needed and stay until
    `close`, or the end of a `with` block. All methods may be called from several threads at once, except `use` and
    `close`.

    Pickled, or copied, it is opened anew from the bundle's folder, with networks of its own.

    threads: how many threads ONNX Runtime may use for each network.
    """

    def __init__(
        self, bundle: Bundle, threads: int = 1, *, precision: Precision = "auto", runtime: Runtime = "auto"
    ) -> None:
        self.bundle = bundle
        self._graphs = Graphs(bundle, threads, precision, runtime)
        self._coder = Coder(bundle, self._graphs.networks)
        self._backgrounds = Backgrounds(bundle, lambda packet: self._coder.decode(packet, None))
        self._drawing = Drawing(bundle, self._graphs.runner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        bundle, threads, precision, runtime = self._graphs.opened_with()
        return partial(Codec, precision=precision, runtime=runtime), (bundle, threads)

    def close(self) -> None:
        """Free the networks, on a GPU too, for good. Closing twice is fine."""
        self._graphs.close()

    def use(self, part: str, runner: GraphRunner) -> None:
        """Let `runner` run a part ("encoder", "decoder") from now on. It stays the caller's: `close` leaves it open."""
        self._graphs.lend(f"{part}.onnx", runner)

    def analyze(self, frame: Frame) -> Latent:
        """The latent of a frame, uint8 [H, W, 3], RGB, sides of 16 to 4096 pixels: one run of the encoder network.

        Raises FrameError for any other type, shape or size, with the line of code that converts it; BundleError for an
        encoder that gives no numbers.
        """
        height, width = check_frame(frame).shape[:2]
        if height % STRIDE or width % STRIDE:
            frame = np.pad(frame, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), "edge")
        runner = self._graphs.runner("encoder.onnx")
        found = runner.run(feed_of(frame, pixels=getattr(runner, "takes_pixels", False)))
        latent = output_of(found, "latent", (1, CHANNELS, frame.shape[0] // STRIDE, frame.shape[1] // STRIDE))
        if not np.isfinite(latent).all():
            raise BundleError("the encoder of the bundle gives no numbers: export it again")
        return Latent(latent[0], width, height)

    def pack(
        self,
        latent: Latent,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> Packet:
        """The packet of a latent: at a quality of 0..1, or of the most quality that `budget_bytes` holds.

        The budget counts the packet as one piece (`Packet.size_bytes`), side information included. It is met within
        5 % (20 % with a reference) and never exceeded; where the coarsest quality does not fit, the packet gets fewer
        layers. The encoder network does not run again.

        Raises BudgetError, which says the smallest size, and UsageError unless exactly one of budget and quality is
        given, for a quality that makes more than a packet can hold, or for a reference without its name in
        `options.side_info` or the other way round.
        """
        return self.pack_decoded(latent, budget_bytes=budget_bytes, quality=quality, options=options)[0]

    def pack_decoded(
        self,
        latent: Latent,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> tuple[Packet, Latent]:
        """As `pack`, and the latent that a receiver decodes from it: what a later packet may refer to.

        A keyframe is predicted from the most alike of the bundle's background pictures of its size, unless it would be
        as small without.
        """
        if (budget_bytes is None) == (quality is None):
            raise UsageError("pack takes either budget_bytes or quality")
        if budget_bytes is not None and budget_bytes < 1:
            raise UsageError(f"budget_bytes must be positive, got {budget_bytes}")
        budget_bytes = None if budget_bytes is None else min(budget_bytes, MAX_PACKET_BYTES)  # no packet holds more
        self._coder.check_reference(latent, options.side_info, options.reference)
        if options.reference is None and options.background:
            nearest = self._backgrounds.nearest(latent)
            if nearest is not None and options.side_info.room_bytes >= nearest[0].item_bytes:
                name, reference = nearest
                side_info = replace(options.side_info, background=name)
                with suppress(BudgetError):  # without its name, the frame may yet fit
                    predicted = replace(options, side_info=side_info, reference=reference)
                    packet, decoded = self._pack(latent, budget_bytes, quality, predicted)
                    if not budget.is_cut(self._coder, latent, packet):
                        return packet, decoded
        return self._pack(latent, budget_bytes, quality, options)

    def _pack(
        self, latent: Latent, budget_bytes: int | None, quality: float | None, options: PackOptions
    ) -> tuple[Packet, Latent]:
        options = options.with_motion(latent, self.bundle.gain)
        if quality is None:
            assert budget_bytes is not None
            chunks, trial = budget.fit(self._coder, latent, options, budget_bytes)
        else:
            if not 0 <= quality <= 1:
                raise UsageError(f"quality must be 0 to 1, got {quality}")
            trial = self._coder.try_options(latent, round(quality * LEVELS), options)
            chunks = trial.code()
            if budget.share_of_format(chunks) > 1:
                raise UsageError(
                    f"quality {quality:g} makes {budget.size(chunks)} bytes of this {latent.width}x{latent.height} "
                    f"picture, and a layer may have {MAX_CHUNK_BYTES}: lower the quality, name a budget or shrink the "
                    "picture"
                )
        packet = Packet(
            bundle_id=self.bundle.id,
            epoch=options.epoch,
            frame=options.frame,
            time_ms=options.time_ms,
            width=latent.width,
            height=latent.height,
            q=trial.level,
            total_layers=len(chunks),
            first_layer=0,
            chunks=tuple(chunks),
            side_info=options.side_info_with(trial.copies),
        )
        return packet, trial.decoded

    def trial(
        self,
        latent: Latent,
        level: int,
        reference: Latent | None = None,
        ledger: npt.NDArray[np.float64] | None = None,
        differences: Differences | None = None,
    ) -> Trial:
        """A latent rounded at one quality (0..255), with what its symbols cost: see `Coder.try_level`."""
        return self._coder.try_level(latent, level, len(GROUPS), None, reference, ledger, differences)

    @property
    def backgrounds(self) -> tuple[Latent, ...]:
        """Background pictures of the bundle, which keyframes of their size may refer to. BundleError for a bad file."""
        return self._backgrounds.latents

    @property
    def has_reference(self) -> bool:
        """Whether the bundle can code inter frames."""
        return self.bundle.has_reference

    def is_cut(self, latent: Latent, packet: Packet, previous: Packet | None = None) -> bool:
        """Whether a keyframe of this latent, of the same quality, would be no larger than `packet`, an inter frame.

        `previous`, the keyframe before, mostly saves a trial.
        """
        return budget.is_cut(self._coder, latent, packet, previous)

    def unpack(self, packet: Packet, reference: Latent | None = None) -> Latent:
        """The latent that a packet describes, from as many layers as it carries from the base on.

        reference: the decoded latent that `packet.side_info.reference` names, from exactly as many layers as it says;
        a keyframe needs none. Raises BundleError if the packet was made with another bundle, MissingReference if it
        needs a reference and gets none, and PacketError if its symbols do not hold together.
        """
        if packet.bundle_id != self.bundle.id:
            raise BundleError(
                f"the packet was made with bundle {packet.bundle_id}, this is bundle {self.bundle.id}: "
                "load the bundle of its sender"
            )
        if packet.first_layer != 0:
            raise PacketError(f"packet: starts at layer {packet.first_layer}, the base layer is missing")
        return self._coder.decode(packet, self._backgrounds.of(packet) or reference)

    @property
    def has_flow(self) -> bool:
        """Whether the bundle holds a flow decoder, so that `synthesize` takes steps."""
        return self._drawing.has_flow

    @property
    def has_large_decoder(self) -> bool:
        """Whether the bundle holds a second, larger base decoder, for the same packets."""
        return self._drawing.has_large_decoder

    def decoder_for(self, steps: int, decoder: DecoderSize = "auto") -> Literal["small", "large"]:
        """The base decoder that draws a picture of so many steps. "auto": the large one where there is one.

        The flow decoder was trained on pictures of the small one, so with steps that one draws. Raises UsageError for a
        large one that the bundle has not, or with steps.
        """
        return self._drawing.decoder_for(steps, decoder)

    def synthesize(
        self, latent: Latent, *, steps: int = 0, seed: int = 0, realism: float = 1.0, decoder: DecoderSize = "small"
    ) -> Frame:
        """The picture of a latent, uint8 [H, W, 3], RGB.

        steps: 0 is the base decoder alone; with 1 to 4, the flow decoder adds detail that was not sent, in so many
        steps. seed: of its noise. realism: 0 gives the base picture, 1 all of the added detail. decoder: see
        `decoder_for`.

        Every machine decodes the same latent, but draws with floats: pictures may differ by one grey level in a few
        pixels between machines, runtimes and numbers of threads. The packet is what can be reproduced to the bit.

        Raises UsageError for values out of range, for steps without a flow decoder, and as `decoder_for`.
        """
        return self._drawing.draw(latent, steps, seed, realism, decoder)

    def encode(
        self,
        frame: Frame,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> bytes:
        """A frame as the bytes of its packet: `analyze` and `pack` in one."""
        return self.pack(self.analyze(frame), budget_bytes=budget_bytes, quality=quality, options=options).to_bytes()

    def decode(
        self,
        data: bytes,
        reference: Latent | None = None,
        *,
        layers: int | None = None,
        steps: int = 0,
        seed: int = 0,
        realism: float = 1.0,
        decoder: DecoderSize = "small",
    ) -> Frame:
        """The picture in a packet's bytes: `Packet.from_bytes`, `unpack` and `synthesize` in one.

        layers: how many of the packet's layers are used, all if it is None. Raises PacketError or ChecksumError for
        bytes that are no packet, and what `unpack` and `synthesize` raise.
        """
        packet = Packet.from_bytes(data)
        latent = self.unpack(packet if layers is None else packet.prefix(layers), reference)
        return self.synthesize(latent, steps=steps, seed=seed, realism=realism, decoder=decoder)


def load(
    path: str | Path | None = None, threads: int = 1, *, precision: Precision = "auto", runtime: Runtime = "auto"
) -> Codec:
    """The codec of the bundle in the folder `path`; None and "default" are the one that ships. BundleError without one.

    threads: as of `Codec`. precision: "auto", "fp32", or "int8" where a part has such a form; runtime: "auto", "cpu",
    "cuda", "ort-tensorrt" or "tensorrt": see `edgesem.bundle.runner.choose`.
    """
    return Codec(Bundle.open(path), threads, precision=precision, runtime=runtime)

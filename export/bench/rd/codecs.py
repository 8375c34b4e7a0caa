"""The codecs of a bench, chosen by name: edgesem's decoders (`BundleCodecs`), and those of `export.bench.rd.baselines`.

`edgesem` is the base decoder, `edgesem+1step` to `edgesem+4step` redraw with the flow decoder. `avif-s6+flow` is the
control: the picture that AVIF decodes, redrawn by the same flow decoder. A gain there is the flow decoder's alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path

import edgesem
from edgesem.bundle import runner
from edgesem.bundle.runner import Precision
from edgesem.codec.latent import LEVELS, Latent
from edgesem.errors import BudgetError, MissingDependency, UsageError
from edgesem.quality.metrics import Frame
from edgesem.sources import program_digest
from export.bench.rd.baselines import SIZES, CodecUnderTest, baseline
from export.bench.rd.seen import trained_on
from export.program import FIGURES

SETTINGS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
FLOW_SETTINGS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)  # every step costs time, and the flow decoder is for thin links
CONTROL = "+flow"
_NAME = re.compile(r"edgesem(\+(?P<steps>[1-4])step)?")


@dataclass(frozen=True)
class Choice:
    """The codecs to measure."""

    codecs: list[CodecUnderTest]
    left_out: dict[str, str]
    """Codecs of the default list that cannot be measured here, with the reason."""
    ours: BundleCodecs | None
    """Those of edgesem's bundle, if any of them is among the codecs."""


def choose(wanted: str | None, default: str, sizes: str, bundle: Path | None, precision: Precision = "auto") -> Choice:
    """The codecs of a list with commas, those other than edgesem at each of `sizes`; of `default` what can be had.

    Raises UsageError for an unknown name or size, and MissingDependency for a codec that was asked for by name.
    """
    wanted_sizes = [size.strip() for size in sizes.split(",")]
    if unknown := [size for size in wanted_sizes if size not in SIZES]:
        raise UsageError(f"--sizes takes {', '.join(SIZES)}, not {unknown[0]!r}")
    names = [name.strip() for name in (wanted or default).split(",")]
    needs_bundle = any(name.startswith("edgesem") or CONTROL in name for name in names)
    ours = BundleCodecs(bundle, precision) if needs_bundle else None
    codecs: dict[str, CodecUnderTest] = {}
    left_out: dict[str, str] = {}
    for name in names:
        whole = not name.startswith("edgesem") and not name.endswith(("-half", "-quarter"))
        for size in wanted_sizes if whole else ["full"]:
            if CONTROL in name and size == "quarter":
                continue  # a control need not be measured at every size, and each point of it takes a flow step
            variant = name if size == "full" else f"{name}-{size}"
            try:
                if ours and name.startswith("edgesem"):
                    codecs[variant] = ours.codec(name)
                elif ours and CONTROL in name:
                    codecs[variant] = ours.control(variant)
                else:
                    codecs[variant] = baseline(variant)
            except (MissingDependency, UsageError) as error:
                if wanted is not None:
                    raise
                left_out[variant] = str(error)
    return Choice(list(codecs.values()), left_out, ours)


class BundleCodecs:
    """The codecs under test that one bundle gives: its base decoder, and its flow decoder at 1 to 4 steps.

    bundle: its folder; None is the one that ships.
    """

    def __init__(self, bundle: Path | None, precision: Precision = "auto") -> None:
        self._codec = codec = edgesem.load(bundle, threads=1, precision=precision)
        self.trained_on = trained_on(codec.bundle.manifest)
        """The measures that training of this bundle saw; None if it does not say."""
        self.graphs = {part: runner.choose(codec.bundle, part, precision) for part in ("encoder", "decoder")}
        """Which file runs the encoder and the base decoder here, what runs it, and why."""
        run_by = " ".join(f"{Path(choice.graph).name} on {choice.runtime}" for choice in self.graphs.values())
        code, digest = program_digest(FIGURES)[:8], codec.bundle.digest[:16]
        self.version = f"edgesem {package_version('edgesem')} code {code} bundle {digest} {run_by}"

    def codec(self, name: str) -> CodecUnderTest:
        """`edgesem`, or `edgesem+Nstep`. Raises UsageError for another name, or without a flow decoder."""
        match = _NAME.fullmatch(name)
        if not match:
            raise UsageError(f"no codec is called {name!r}: use edgesem, or edgesem+1step to edgesem+4step")
        steps = int(match["steps"] or 0)
        if steps:
            self._need_flow(name)

        def decode(data: bytes, size: tuple[int, int]) -> Frame:
            return self._codec.synthesize(self._codec.unpack(edgesem.Packet.from_bytes(data)), steps=steps)

        return CodecUnderTest(
            name, self.version, FLOW_SETTINGS if steps else SETTINGS, self._encode, decode, self._pack
        )

    def control(self, name: str) -> CodecUnderTest:
        """`avif-s6+flow`, `webp-m4+flow-half`, ...: another codec's picture redrawn by one flow step.

        The flow decoder is told the quality at which edgesem would have spent the same bytes on that picture, so it
        adds as much as it would there. Raises UsageError without a flow decoder, or for an unknown codec.
        """
        base = baseline(name.replace(CONTROL, "", 1))
        self._need_flow(name)

        def decode(data: bytes, size: tuple[int, int]) -> Frame:
            latent = self._codec.analyze(base.decode(data, size))
            try:
                level = self._codec.pack(latent, budget_bytes=len(data)).q
            except BudgetError:
                level = 0
            return self._codec.synthesize(Latent(latent.values, latent.width, latent.height, level), steps=1)

        settings = base.settings[::2][:3]  # the lower rates, where there is something to redraw
        version = f"{base.version}, {self.version}"
        return CodecUnderTest(name, version, settings, base.encode, decode, payload=base.payload, highest=base.highest)

    def stages(self, frame: Frame, budget_bytes: int) -> tuple[int, dict[str, Callable[[], object]]]:
        """Size of a frame's packet in bytes, and the parts of coding it by name, each a function to be timed."""
        codec = self._codec
        latent = codec.analyze(frame)
        packet = codec.pack(latent, budget_bytes=budget_bytes)
        received, data = codec.unpack(packet), packet.to_bytes()
        pieces: dict[str, Callable[[], object]] = {
            "analyze": lambda: codec.analyze(frame),
            "pack to a quality": lambda: codec.pack(latent, quality=packet.q / LEVELS).to_bytes(),
            "pack to a budget": lambda: codec.pack(latent, budget_bytes=budget_bytes).to_bytes(),
            "unpack": lambda: codec.unpack(edgesem.Packet.from_bytes(data)),
            "draw": lambda: codec.synthesize(received),
        }
        if self._codec.has_flow:
            pieces["draw, 1 step"] = lambda: codec.synthesize(received, steps=1)
            pieces["draw, 4 steps"] = lambda: codec.synthesize(received, steps=4)
        return len(data), pieces

    def _need_flow(self, name: str) -> None:
        if not self._codec.has_flow:
            raise UsageError(
                f"{name} needs a flow decoder and bundle {self._codec.bundle.folder} has none: "
                "name a bundle that has one with --bundle, or leave this codec out"
            )

    def _encode(self, frame: Frame, setting: float) -> bytes:
        return self._codec.pack(self._codec.analyze(frame), quality=setting).to_bytes()

    def _pack(self, frame: Frame, budget_bytes: int) -> bytes | None:
        try:
            return self._codec.pack(self._codec.analyze(frame), budget_bytes=budget_bytes).to_bytes()
        except BudgetError:
            return None

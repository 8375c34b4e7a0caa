"""The commands encode, decode and info: pictures, packets and bundles as files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgesem.cli.console import emit, pairs
from edgesem.errors import UsageError

if TYPE_CHECKING:
    from edgesem.codec.codec import Codec
    from edgesem.codec.drawing import DecoderSize
    from edgesem.codec.latent import Latent

_DEFAULT_QUALITY = 0.5

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
_Bundle = Annotated[Path | None, typer.Option(help="Folder of the bundle to use.", show_default="the one that ships")]


def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture that Pillow can read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The packet to write, *.es.")],
    bytes_: Annotated[int | None, typer.Option("--bytes", min=1, help="Largest size of OUT, in bytes.")] = None,
    quality: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead of --bytes: 0 smallest, 1 best.", show_default="0.5")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, max=4, help="How many layers to keep.")] = 4,
    region: Annotated[
        str | None, typer.Option(help="x,y,w,h in pixels: finer there, coarser elsewhere.", show_default="all alike")
    ] = None,
    drop: Annotated[
        int | None, typer.Option(min=1, max=255, help="How many of 255 levels coarser.", show_default="90")
    ] = None,
    meaning: Annotated[bool, typer.Option("--meaning", help="Add what the picture means, 64 bytes.")] = False,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Code a picture into a packet of the size, or the quality, that you name.

    With --region the bytes go where you point: the same size shows the region finer and the rest coarser.

    Example: edgesem encode photo.jpg photo.es --bytes 2500
    """
    import edgesem
    from edgesem.cli.describe import describe_packet
    from edgesem.codec.options import PackOptions
    from edgesem.codec.region import DROP, parse_box, region_of
    from edgesem.files import read_picture, write_whole
    from edgesem.packet.side_information import SideInformation

    if bytes_ is not None and quality is not None:
        raise UsageError("--bytes and --quality exclude each other: name one of them")
    if bytes_ is None and quality is None:
        quality = _DEFAULT_QUALITY
    _refuse_same(source, target)
    clock = _Clock()
    with clock("read"):
        frame = read_picture(source)
    if drop is not None and region is None:
        raise UsageError("--drop says how much coarser it is outside of a region: name one with --region")
    height, width = frame.shape[:2]
    finer = None if region is None else region_of(parse_box(region, width, height), width, height, drop or DROP)
    with clock("load"):
        codec = edgesem.load(bundle)
    with clock("analyze"):
        latent = codec.analyze(frame)
    with clock("pack"):
        side_info = SideInformation(embedding=_embedding(codec, latent) if meaning else b"", region=finer)
        options = PackOptions(layers=layers, side_info=side_info)
        packet = codec.pack(latent, budget_bytes=bytes_, quality=quality, options=options)
        data = packet.to_bytes()
    write_whole(target, data)
    result = {"file": target, **describe_packet(packet, data), "encode_s": clock.seconds}
    emit(result, json_, lambda r: pairs(r, f"{target}: {len(data)} bytes"))


def decode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A packet, *.es.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The picture to write: *.png, *.jpg, *.webp ...")],
    layers: Annotated[
        int | None, typer.Option(min=1, max=4, help="Use the first layers only.", show_default="all it has")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder; 0 needs none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the flow decoder's noise.")] = 0,
    realism: Annotated[float, typer.Option(min=0, max=1, help="0 closest to the pixels sent, 1 most natural.")] = 1.0,
    decoder: Annotated[
        str,
        typer.Option(
            metavar="auto|small|large", help="Base decoder. auto: the large one if the bundle has one and no steps."
        ),
    ] = "auto",
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            help="Also write a map of where several samples differ. It is no map of errors: see `bench uncertainty`."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, max=64, help="With --uncertainty: how many.")] = 6,
    bundle: _Bundle = None,
    json_: _Json = False,
) -> None:
    """Redraw the picture of a packet.

    The picture says of itself that it was generated, and how (PNG text, EXIF): `edgesem info photo.png` shows it.

    Example: edgesem decode photo.es photo.png
    """
    import edgesem
    from edgesem.codec import uncertainty as maps
    from edgesem.files import picture_format_of, read_packet, write_picture, write_whole
    from edgesem.provenance import Provenance, encode_with_provenance

    picture_format = picture_format_of(target)
    _refuse_same(source, target)
    if uncertainty is not None:
        picture_format_of(uncertainty)
        _refuse_same(source, uncertainty)
    clock = _Clock()
    with clock("read"):
        packet = read_packet(source)
        packet = packet.prefix(len(packet.chunks) if layers is None else layers)
    with clock("load"):
        codec = edgesem.load(bundle)
    with clock("unpack"):
        latent = codec.unpack(packet)
    with clock("synthesize"):
        base = codec.decoder_for(steps, cast("DecoderSize", decoder))
        frame = codec.synthesize(latent, steps=steps, seed=seed, realism=realism, decoder=base)
    if uncertainty is not None:
        with clock("uncertainty"):
            found = maps.spread(codec, latent, steps=max(steps, 1), samples=samples, seed=seed)
            write_picture(maps.show(found), uncertainty)
    with clock("write"):
        provenance = Provenance.of(packet, codec.bundle, steps=steps, seed=seed, realism=realism, decoder=base)
        write_whole(target, encode_with_provenance(frame, picture_format, provenance))
    height, width = frame.shape[:2]
    result: dict[str, Any] = {
        "file": target,
        "width": width,
        "height": height,
        "layers": len(packet.chunks),
        "total_layers": packet.total_layers,
        "packet_bytes": packet.size_bytes,
        "steps": steps,
        "decoder": base,
        "decode_s": clock.seconds,
        "pixels_sha256": hashlib.sha256(frame.tobytes()).hexdigest(),
    }
    if uncertainty is not None:
        result["uncertainty"] = {"file": uncertainty, "samples": samples, "mean": round(float(found.mean()), 3)}
    emit(result, json_, lambda r: pairs(r, f"{target}: {width}x{height}"))


def info(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|BUNDLE|default", help="A packet, a picture that was decoded, a bundle's folder, or default."
        ),
    ],
    json_: _Json = False,
) -> None:
    """Show what a packet or a bundle is: header, layers, sizes, cost; or how a picture was made.

    Example: edgesem info photo.es
    """
    from edgesem.bundle.bundle import DEFAULT_WORD, Bundle
    from edgesem.cli.describe import brief, bundle_of, describe_bundle, describe_packet
    from edgesem.files import PICTURE_SUFFIXES, read_packet
    from edgesem.provenance import read_provenance

    path = Path(what)
    if what == DEFAULT_WORD or path.is_dir():
        result = describe_bundle(Bundle.open(what))
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        made = read_provenance(path)
        said = {"generated": None, "says": "nothing of how it was made"} if made is None else asdict(made)
        result = {"file": path, **said}
    else:
        packet = read_packet(path)
        result = {"file": path, **describe_packet(packet, packet.to_bytes()), "bundle": bundle_of(packet)}
    emit(result, json_, lambda _: pairs(brief(result), what))


class _Clock:
    """Seconds that each named stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 6)


def _refuse_same(source: Path, target: Path) -> None:
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(f"{target} is the input itself: name another file to write")


def _embedding(codec: Codec, latent: Latent) -> bytes:
    from edgesem.semantics.embedding import SemanticHead, to_bytes

    return to_bytes(SemanticHead(codec.bundle).embed(latent))
